// The headline of every row of a board with its interval, one strip a row; lengths are shares of the width.
function forestFigure(board) {
  const [low, high, step] = board.axis, task = tasks[board.task];
  const at = (value) => `${(100 * (Math.min(Math.max(100 * value, low), high) - low) / (high - low)).toFixed(3)}%`;
  const margin = 0.02 * (high - low);
  const ticks = ticksOf(low, high, step).filter(({ value }) => value >= low + margin && value <= high - margin);
  const standing = rowsOf(board), plain = standing.find((row) => has(row, FLAGS.baseline));
  const references = [
    ...(plain === undefined ? [] : [["student", `plain student ${percent(rows.headline[plain])}`, rows.headline[plain]]]),
    ["teacher", `teacher ${percent(board.teacherScore)}`, board.teacherScore],
  ];
  const legend = make("ul", { class: "legend" }, ...references.map(([kind, label]) => make("li", {},
    svgElement("svg", { width: 22, height: 12, "aria-hidden": "true" }, svgElement("line", { class: `reference ${kind}`, x1: 0, x2: 22, y1: 6, y2: 6 })), label)));
  const title = task.headline === "accuracy" ? "Accuracy" : task.headline;
  const result = figure("accuracy", title, "Dot: mean; bar: 95 % interval; rings: single seeds.", legend);
  const down = (kind, x) => svgElement("line", { class: kind, x1: x, x2: x, y1: 0, y2: "100%" });
  for (const row of standing) {
    const lines = [...ticks.map(({ value }) => down("grid", at(value / 100))), ...references.map(([kind, , value]) => down(`reference ${kind}`, at(value)))];
    result.append(forestStrip(row, at, low, high, lines));
  }
  const scale = svgElement("svg", { class: "axis", width: "100%", height: 40 });
  for (const { value, label } of ticks) {
    const x = at(value / 100);
    scale.append(svgElement("line", { class: "grid", x1: x, x2: x, y1: 0, y2: 5 }), svgElement("text", { x, y: 17, "text-anchor": "middle" }, label));
  }
  scale.append(svgElement("text", { x: "50%", y: 36, "text-anchor": "middle" }, task.axis));
  result.append(make("div", { class: "strip scale", "aria-hidden": "true" }, make("span"), scale));
  return result;
}

function forestStrip(row, at, low, high, lines) {
  const mean = rows.headline[row], half = rows.half[row], seeds = detailAt(row, "scores")[0], name = rows.method[row];
  const words = `${name}: ${percent(mean)}${half === null ? "" : `, 95 % interval ${percent(mean - half)} to ${percent(mean + half)}`}, ${seeds.length} seeds`;
  const svg = svgElement("svg", { width: "100%", height: "100%", role: "img", "aria-label": words }, svgElement("title", {}, words), ...lines);
  if (half !== null) svg.append(svgElement("line", { class: "interval", x1: at(mean - half), x2: at(mean + half), y1: "50%", y2: "50%" }));
  for (const seed of seeds) svg.append(svgElement("circle", { class: "seed", cx: at(seed), cy: "50%", r: 3 }));
  if (half !== null && 100 * (mean - half) < low) svg.append(svgElement("text", { class: "beyond", x: 0, y: "50%", dy: 4 }, "◂"));
  if (half !== null && 100 * (mean + half) > high) svg.append(svgElement("text", { class: "beyond", x: "100%", y: "50%", dy: 4, "text-anchor": "end" }, "▸"));
  svg.append(svgElement("circle", { class: "mean", cx: at(mean), cy: "50%", r: 5 }));
  return make("div", { class: "strip", "data-row": pathOf(row) }, make("a", { href: `#${encodeURI(pathOf(row))}` }, name), svg);
}

function rowsOf(board) {
  const all = Array.from({ length: board.count }, (_, place) => board.first + place);
  return all.filter((row) => !has(row, FLAGS.withdrawn));
}
