// The address of the page says what is shown: `#protocol/method/pair?protocol=…&sort=…`.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function linkParts() {
  const fragment = location.hash.slice(1), mark = fragment.indexOf("?");
  const path = decoded(mark < 0 ? fragment : fragment.slice(0, mark));
  return { path, query: new URLSearchParams(mark < 0 ? location.search : fragment.slice(mark + 1)) };
}

function writeLink() {
  const query = new URLSearchParams();
  for (const name of ["text", ...SELECTS]) if (chosen(name)) query.set(name, chosen(name));
  for (const [name, usual] of Object.entries(TICKS)) if (ticked(name) !== usual) query.set(name, ticked(name) ? "1" : "0");
  if (state.sort) query.set("sort", `${state.descending ? "-" : ""}${state.sort}`);
  const target = rowOfPath(linkParts().path);
  const path = target !== undefined && state.open.has(target) ? encodeURI(pathOf(target)) : "";
  const text = query.toString();
  // an anchor such as #figures stays until there is something to say
  if (!text && !path && !location.search && target === undefined && !location.hash.includes("?")) return;
  const fragment = path + (text || location.search ? `?${text}` : "");
  if (fragment !== location.hash.slice(1)) history.replaceState(null, "", `#${fragment}`);
}

function readFilters(query) {
  control("filter-protocol").value = query.get("protocol") ?? "";
  if (control("filter-protocol").selectedIndex < 0) control("filter-protocol").value = "";
  fillPairs();
  for (const name of ["text", ...SELECTS.slice(1)]) {
    const field = control(`filter-${name}`);
    field.value = query.get(name) ?? "";
    if (field.selectedIndex === -1) field.value = "";
  }
  for (const [name, usual] of Object.entries(TICKS)) control(`show-${name}`).checked = query.has(name) ? query.get(name) === "1" : usual;
  const sort = query.get("sort") ?? "", key = sort.replace(/^-/, "");
  const known = ["rank", "board", "method", ...Object.keys(rows).filter((name) => !["low", "high", "half", "flags", "paper"].includes(name))];
  state.sort = known.includes(key) ? key : "";
  state.descending = sort.startsWith("-");
}

let rowPlaces = null;
function rowOfPath(path) {
  if (!path) return undefined;
  if (rowPlaces === null) {
    rowPlaces = new Map();
    for (let row = 0; row < rowCount; row++) {
      // the older form of a row's address names the method last
      rowPlaces.set(`${boardAt(row).id}/${rows.method[row]}`, row);
      rowPlaces.set(pathOf(row), row);
    }
  }
  return rowPlaces.get(path);
}

function selectBoard(board) {
  control("filter-protocol").value = board.protocol;
  fillPairs();
  control("filter-pair").value = board.pair;
}

function openRow(row) {
  state.open.add(row);
  if (has(row, FLAGS.extra)) control("show-extra").checked = true;
  if (has(row, FLAGS.withdrawn)) control("show-withdrawn").checked = true;
  if (matchingRows().slice(0, state.limit).indexOf(row) < 0) {
    for (const name of ["text", "family", "track", "badge"]) control(`filter-${name}`).value = "";
    if (boards.length > 1) selectBoard(boardAt(row));
    state.limit = Math.max(state.limit, matchingRows().indexOf(row) + 1);
  }
  update();
  showRest();
  const element = elementOf(row);
  element.scrollIntoView({ block: "start" });
  element.querySelector("button.toggle").focus({ preventScroll: true });
}

const elementOf = (row) => document.querySelector(`#results tbody tr.row[data-entry="${CSS.escape(pathOf(row))}"]`);

function followLink() {
  const { path, query } = linkParts();
  const row = rowOfPath(path), board = boards.find((each) => each.id === path);
  if (row !== undefined) {
    if (location.hash.includes("?")) readFilters(query);
    openRow(row);
  } else if (board) {
    readFilters(new URLSearchParams());
    selectBoard(board);
    update();
    control("results").scrollIntoView({ block: "start" });
  } else if (path === "" && location.hash.includes("?")) {
    readFilters(query);
    update();
  }
}

function firstLink() {
  const { path, query } = linkParts();
  readFilters(query);
  if (rowOfPath(path) === undefined) update();
  followLink();
  // what the anchor names lies elsewhere now that the table is there
  document.getElementById(path)?.scrollIntoView();
}
