// The table: only the rows that are looked at exist as elements.
let tableShape = "", found = [];

function effectiveSort(columns) {
  if (state.sort) return [state.sort, state.descending];
  return columns.some((column) => column.key === "board") ? ["board", false] : ["headline", true];
}

function showHead(columns) {
  const shape = columns.map((column) => `${column.key}/${column.title}`).join();
  const head = control("results").tHead;
  if (shape !== tableShape) {
    tableShape = shape;
    const cells = columns.map((column) => {
      const title = column.key ? make("button", { type: "button", class: "sort", "data-key": column.key }, column.title) : column.title;
      if (column.key) title.addEventListener("click", () => sortBy(column));
      const kind = [column.text ? "text" : "", column.key ? column.key : "quoted"].join(" ").trim();
      return make("th", { scope: "col", class: kind }, title, make("small", {}, column.unit));
    });
    head.replaceChildren(make("tr", {}, ...cells));
  }
  const [key, descending] = effectiveSort(columns);
  for (const [place, column] of columns.entries()) {
    const header = head.rows[0].cells[place];
    if (column.key !== key) header.removeAttribute("aria-sort");
    else header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  }
}

function sortBy(column) {
  const [key, descending] = effectiveSort(tableColumns());
  state.descending = key === column.key ? !descending : column.first === "descending";
  state.sort = column.key;
  state.limit = PAGE_ROWS;
  update();
}

function rowElement(row, columns) {
  const kinds = [["leading", FLAGS.leading], ["baseline", FLAGS.baseline], ["withdrawn", FLAGS.withdrawn]];
  const element = make("tr", { "data-entry": pathOf(row), class: ["row", ...kinds.filter(([, flag]) => has(row, flag)).map(([kind]) => kind)].join(" ") });
  for (const column of columns) {
    if (column.key === "method") element.append(methodCell(row));
    else {
      const kind = `${column.text ? "text " : ""}${column.key || "quoted"}`;
      element.append(make("td", { class: kind, "data-label": column.title }, column.cell(row)));
    }
  }
  return element;
}

function methodCell(row) {
  const open = state.open.has(row);
  const button = make("button", { type: "button", class: "toggle", "aria-expanded": String(open) }, rows.method[row]);
  if (open) button.setAttribute("aria-controls", `detail-${row}`);
  const link = make("a", { class: "permalink", href: `#${encodeURI(pathOf(row))}`, "aria-label": `Permanent link to ${rows.method[row]}` }, "#");
  return make("th", { scope: "row", class: "text method" }, button, link);
}

function detailElement(row, width) {
  return make("tr", { class: "unfolded", id: `detail-${row}` }, make("td", { colspan: width }, detailSheet(row)));
}

function setOpen(element, row, open) {
  if (open) state.open.add(row);
  else state.open.delete(row);
  const button = element.querySelector("button.toggle");
  button.setAttribute("aria-expanded", String(open));
  if (element.nextElementSibling?.matches(".unfolded")) element.nextElementSibling.remove();
  if (open) {
    element.after(detailElement(row, element.cells.length));
    button.setAttribute("aria-controls", `detail-${row}`);
  } else button.removeAttribute("aria-controls");
}

// Some screenfuls at once; what lies further below follows once these are painted.
const FIRST_ROWS = 100;
let rest = null;

function showRest() {
  const show = rest;
  rest = null;
  show?.();
}

function showRows() {
  const columns = tableColumns(), body = control("results").tBodies[0], wanted = found.slice(0, state.limit);
  showHead(columns);
  body.replaceChildren(rowElements(wanted.slice(0, FIRST_ROWS), columns));
  rest = wanted.length > FIRST_ROWS ? () => body.append(rowElements(wanted.slice(FIRST_ROWS), columns)) : null;
  if (rest) requestAnimationFrame(() => setTimeout(showRest));
  const left = found.length - state.limit;
  document.querySelector(".more").hidden = left <= 0;
  control("show-more").textContent = `Show ${Math.min(left, PAGE_ROWS)} more of ${left} further rows`;
}

function rowElements(wanted, columns) {
  const part = document.createDocumentFragment();
  for (const row of wanted) {
    part.append(rowElement(row, columns));
    if (state.open.has(row)) part.append(detailElement(row, columns.length));
  }
  return part;
}

function update() {
  found = matchingRows();
  control("count").value = `${found.length} of ${rowCount} rows`;
  control("order").textContent = orderText(tableColumns());
  showRows();
  writeLink();
  updateReported();
  updateFigures();
}

function orderText(columns) {
  const [key, descending] = effectiveSort(columns);
  const column = columns.find((each) => each.key === key);
  const name = columns.find((each) => each.key === "headline").title;
  const mean = `test ${name} after the last epoch, mean over the seeds`;
  const shaded = "Shaded: rows that no other of their board is shown to beat.";
  if (!state.sort) return `Sorted by ${key === "board" ? `board, then by ${mean}` : mean}. ${shaded}`;
  const words = key === "headline" ? mean : column ? column.title : key;
  return `Sorted by ${words}, ${descending ? "highest first" : "lowest first"}. ${shaded}`;
}

function updateReported() {
  const shown = new Set(shownBoards().map((board) => board.id));
  const all = control("reported");
  if (!all) return;
  all.hidden = !ticked("reported");
  for (const section of all.querySelectorAll("section.board")) section.hidden = !shown.has(section.dataset.name);
}
