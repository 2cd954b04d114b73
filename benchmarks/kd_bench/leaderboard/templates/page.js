"use strict";

// Sorting: a row and its detail move together; rows without a value stay last in either direction.
function sortTable(table, header) {
  const descending = header.getAttribute("aria-sort")
    ? header.getAttribute("aria-sort") === "ascending"
    : header.dataset.first === "descending";
  const column = [...header.parentNode.children].indexOf(header);
  const key = (row) => row.children[column].dataset.value;
  const numeric = header.dataset.kind === "number";
  const compare = (left, right) => {
    const a = key(left), b = key(right);
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { sensitivity: "base" });
    return descending ? -order : order;
  };
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.querySelectorAll("tr.row")].map((row) => [row, row.nextElementSibling]);
  rows.sort((a, b) => compare(a[0], b[0]));
  for (const [row, detail] of rows) body.append(row, detail);
}

function setOpen(row, open) {
  row.querySelector("button").setAttribute("aria-expanded", String(open));
  row.nextElementSibling.hidden = !open || row.hidden;
}

function isOpen(row) {
  return row.querySelector("button").getAttribute("aria-expanded") === "true";
}

function filterRows(section) {
  const words = section.querySelector("input[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const family = section.querySelector("select[name=family]").value;
  const rows = [...section.querySelectorAll("tr.row")];
  for (const row of rows) {
    const text = row.dataset.search.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word)) || (family !== "" && row.dataset.family !== family);
    setOpen(row, isOpen(row));
    const strip = section.querySelector(`.strip[data-row="${CSS.escape(row.id)}"]`);
    if (strip) strip.hidden = row.hidden;
  }
  const shown = rows.filter((row) => !row.hidden).length;
  section.querySelector(".controls output").value = `${shown} of ${rows.length} rows`;
}

function openTarget() {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (row && row.matches("tr.row")) {
    setOpen(row, true);
    row.scrollIntoView({ block: "center" });
  }
}

// Reliability: fifteen bins of confidence; bar = accuracy in the bin, strip below = share of the samples.
const RARE = 0.005;

function svgElement(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawReliability(svg, entry) {
  const left = 44, top = 8, size = 264, shareTop = 292, shareHeight = 40;
  const x = (value) => left + value * size;
  const y = (value) => top + (1 - value) * size;
  const draw = (name, attributes, text) => svg.append(svgElement(name, attributes, text));
  svg.replaceChildren();
  svg.setAttribute("aria-label", `Reliability diagram of ${entry.name}: ${entry.summary}`);
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    draw("line", { class: "grid", x1: left, x2: left + size, y1: y(tick), y2: y(tick) });
    draw("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick * 100));
    draw("text", { x: x(tick), y: shareTop + shareHeight + 14, "text-anchor": "middle" }, String(tick * 100));
  }
  const most = Math.max(...entry.bins.map((bin) => bin.share));
  for (const bin of entry.bins) {
    if (bin.share === 0) continue;
    const width = (bin.high - bin.low) * size - 1.5;
    const title = `confidence ${(bin.low * 100).toFixed(1)}–${(bin.high * 100).toFixed(1)} %: ` +
      `mean confidence ${(bin.confidence * 100).toFixed(1)} %, accuracy ${(bin.accuracy * 100).toFixed(1)} %, ` +
      `${(bin.share * 100).toFixed(1)} % of the samples`;
    const bar = svgElement("rect",
      { class: bin.share < RARE ? "bar rare" : "bar", x: x(bin.low), y: y(bin.accuracy), width, height: bin.accuracy * size });
    bar.append(svgElement("title", {}, title));
    const height = (bin.share / most) * shareHeight;
    const share = svgElement("rect",
      { class: "share", x: x(bin.low), y: shareTop + shareHeight - height, width, height });
    share.append(svgElement("title", {}, title));
    svg.append(bar, share);
  }
  draw("rect", { class: "frame", x: left, y: top, width: size, height: size });
  draw("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) });
  draw("text", { x: left + size / 2, y: shareTop + shareHeight + 32, "text-anchor": "middle" },
    "Confidence of the predicted class (%)");
  draw("text", { x: 0, y: 0, transform: `translate(11 ${top + size / 2}) rotate(-90)`, "text-anchor": "middle" },
    "Accuracy (%)");
  draw("text", { x: left - 6, y: shareTop + shareHeight - 12, "text-anchor": "end" }, "share");
}

function startReliability(figure) {
  const entries = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const select = figure.querySelector("select");
  const update = () => {
    const entry = entries[select.selectedIndex];
    drawReliability(figure.querySelector("svg"), entry);
    figure.querySelector(".summary").textContent = entry.summary;
  };
  select.addEventListener("change", update);
  update();
}

for (const section of document.querySelectorAll("section.board")) {
  const table = section.querySelector("table.results");
  for (const header of table.tHead.rows[0].cells) {
    // reported figures have no button: nothing is sorted by them
    header.querySelector("button")?.addEventListener("click", () => sortTable(table, header));
  }
  for (const row of section.querySelectorAll("tr.row")) {
    setOpen(row, false);
    row.querySelector("button").addEventListener("click", () => setOpen(row, !isOpen(row)));
  }
  for (const control of section.querySelectorAll(".controls input, .controls select")) {
    control.addEventListener("input", () => filterRows(section));
  }
  section.querySelector(".controls").hidden = false;
  filterRows(section);
}
for (const figure of document.querySelectorAll("figure.reliability")) startReliability(figure);
window.addEventListener("hashchange", openTarget);
openTarget();
