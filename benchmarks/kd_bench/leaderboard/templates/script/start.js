// What the reader does.
const TEXT_FIELDS = ["input", "select", "textarea"];

function filtersChanged(event) {
  if (event.target.id === "filter-protocol") fillPairs();
  state.limit = PAGE_ROWS;
  update();
}

function toggled(event) {
  const button = event.target.closest("button.toggle");
  if (!button) return;
  const element = button.closest("tr"), row = rowOfPath(element.dataset.entry);
  setOpen(element, row, !state.open.has(row));
  writeLink();
}

// A permanent link answers at once; with a modifier key it is the browser's, for a new tab for example.
function linkClicked(event) {
  const link = event.target.closest("a.permalink");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  openRow(rowOfPath(link.closest("tr").dataset.entry));
}

function keyPressed(event) {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (TEXT_FIELDS.includes(event.target.localName)) return;
  event.preventDefault();
  control("filter-text").focus();
}

function reset() {
  readFilters(new URLSearchParams());
  state.limit = PAGE_ROWS;
  update();
}

for (const part of document.querySelectorAll(".controls, .scroll.long")) part.hidden = false;
fillSelects();
for (const name of ["text", ...SELECTS]) control(`filter-${name}`).addEventListener("input", filtersChanged);
for (const name of Object.keys(TICKS)) control(`show-${name}`).addEventListener("input", filtersChanged);
control("results").addEventListener("click", toggled);
control("results").addEventListener("click", linkClicked);
control("reset").addEventListener("click", reset);
control("download-csv").addEventListener("click", saveCsv);
control("download-json").addEventListener("click", saveJson);
control("show-more").addEventListener("click", () => {
  const first = found[state.limit];
  state.limit += PAGE_ROWS;
  showRows();
  showRest();
  elementOf(first).querySelector("button.toggle").focus();
});
document.addEventListener("keydown", keyPressed);
window.addEventListener("hashchange", followLink);
watchFigures();
firstLink();
