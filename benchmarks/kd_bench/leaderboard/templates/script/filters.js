// What is shown, and in which order.
const control = (id) => document.getElementById(id);
const SELECTS = ["protocol", "pair", "family", "track", "badge"];
const TICKS = { reported: true, extra: false, withdrawn: false };
const PAGE_ROWS = 200;

const state = { sort: "", descending: false, limit: PAGE_ROWS, open: new Set() };

const chosen = (name) => control(`filter-${name}`).value;
const ticked = (name) => control(`show-${name}`).checked;

function fill(select, options, all) {
  const before = select.value;
  select.replaceChildren(make("option", { value: "" }, all), ...options.map(([value, text]) => make("option", { value }, text)));
  select.value = options.some(([value]) => value === before) ? before : "";
}

function fillSelects() {
  fill(control("filter-protocol"), [...new Set(boards.map((board) => board.protocol))].map((name) => [name, name]), "all");
  for (const name of ["family", "track", "badge"]) fill(control(`filter-${name}`), shared[name].map((text) => [text, text]), "all");
  fillPairs();
}

function fillPairs() {
  const protocol = chosen("protocol");
  const found = boards.filter((board) => !protocol || board.protocol === protocol);
  const pairs = new Map(found.map((board) => [board.pair, `${board.teacher} → ${board.student}`]));
  fill(control("filter-pair"), [...pairs], "all");
}

function shownBoards() {
  const protocol = chosen("protocol"), pair = chosen("pair");
  return boards.filter((board) => (!protocol || board.protocol === protocol) && (!pair || board.pair === pair));
}

let searchTexts = null;
function searchText(row) {
  searchTexts ??= rows.method.map((method, each) => {
    const board = boardAt(each);
    return `${method} ${shared.family[rows.family[each]]} ${shared.paper[rows.paper[each]]} ${board.label}`.toLowerCase();
  });
  return searchTexts[row];
}

// Values to sort by: numbers as they are, text by its place among all texts; NaN where there is none.
const sortColumns = new Map();
function sortValues(key) {
  if (!sortColumns.has(key)) sortColumns.set(key, Float64Array.from({ length: rowCount }, sortValue(key)));
  return sortColumns.get(key);
}

function sortValue(key) {
  if (key === "board") return (_, row) => boardOf[row];
  if (key === "rank") return (_, row) => (rows.low[row] === null ? NaN : rows.low[row] * 1e7 + rows.high[row]);
  if (key === "method") {
    const collator = new Intl.Collator("en", { sensitivity: "base", numeric: true });
    const places = new Map([...new Set(rows.method)].sort(collator.compare).map((name, place) => [name, place]));
    return (_, row) => places.get(rows.method[row]);
  }
  return (_, row) => rows[key][row] ?? NaN;
}

function sortedRows(key, descending) {
  const order = Uint32Array.from({ length: rowCount }, (_, row) => row);
  if (!key) return order;
  const values = sortValues(key), sign = descending ? -1 : 1;
  // rows without a value stay last in either direction
  return order.sort((a, b) => {
    const x = values[a], y = values[b], lastX = Number.isNaN(x), lastY = Number.isNaN(y);
    return lastX || lastY ? lastX - lastY || a - b : sign * (x - y) || a - b;
  });
}

let ordered = { key: null, descending: null, rows: null };
function currentOrder() {
  if (ordered.rows === null || ordered.key !== state.sort || ordered.descending !== state.descending) {
    ordered = { key: state.sort, descending: state.descending, rows: sortedRows(state.sort, state.descending) };
  }
  return ordered.rows;
}

function matchingRows() {
  const words = chosen("text").toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = new Uint8Array(boards.length);
  for (const board of shownBoards()) wanted[board.number] = 1;
  const places = ["family", "track", "badge"].map((name) => [rows[name], chosen(name) ? shared[name].indexOf(chosen(name)) : -1]);
  const hidden = (ticked("extra") ? 0 : FLAGS.extra) | (ticked("withdrawn") ? 0 : FLAGS.withdrawn);
  const found = [];
  for (const row of currentOrder()) {
    if (!wanted[boardOf[row]] || rows.flags[row] & hidden) continue;
    if (places.some(([column, place]) => place >= 0 && column[row] !== place)) continue;
    if (words.length && !words.every((word) => searchText(row).includes(word))) continue;
    found.push(row);
  }
  return found;
}
