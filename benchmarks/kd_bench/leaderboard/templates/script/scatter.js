// What more of the headline costs: every row a point, those that no other beats on both counts joined by a line.
function scatterFigure(board, kind) {
  const { front, cost, leftOut, reason } = board.fronts[kind], task = tasks[board.task];
  const factor = kind === "ece" ? 100 : 1;
  const points = rowsOf(board).filter((row) => rows[kind][row] !== null);
  if (points.length < 2) return null;
  const best = front.map((offset) => board.first + offset);
  // a few rows that cost far more than the rest would squeeze all others: they stand at the edge, as arrows
  const costs = points.map((row) => factor * rows[kind][row]).sort((a, b) => a - b);
  const usual = costs[Math.floor(0.9 * (costs.length - 1))];
  const edge = Math.max(usual + 1.5 * (usual - costs[0]), ...best.map((row) => factor * rows[kind][row]));
  const beyond = points.filter((row) => factor * rows[kind][row] > edge);
  const place = (row) => [Math.min(factor * rows[kind][row], edge), 100 * rows.headline[row]];
  const name = task.headline === "accuracy" ? "Accuracy" : task.headline;
  const title = kind === "ece" ? `${name} and calibration` : `${name} and cost`;
  const frame = chart({
    width: 460, height: 340, title: `${title}: one point a row, the front joined`,
    x: spanned(points.map((row) => place(row)[0]), 0.1, 5), y: spanned(points.map((row) => place(row)[1]), 0.1, 5),
    xTitle: kind === "ece" ? "Expected calibration error (%)" : "Training time, relative to the plain student's (×)",
    yTitle: `Test ${task.headline} (%)`,
  });
  const at = (row) => [frame.across(place(row)[0]), frame.up(place(row)[1])];
  frame.svg.append(frontLine(best.map(at), frame));
  for (const row of points) frame.svg.append(scatterPoint(row, at(row), best.includes(row), beyond.includes(row), kind, task));
  labelPoints(frame, best.map((row) => [rows.method[row], ...at(row)]), points.map(at));
  const words = `Filled and named: rows that no other beats on both, joined by the line. Headline against ${cost}.` +
    (beyond.length ? ` Beyond the edge: ${beyond.map((row) => `${rows.method[row]} (${number(factor * rows[kind][row], 1)})`).join(", ")}.` : "") +
    (leftOut ? ` ${leftOut} left out: ${reason}.` : "");
  return figure("scatter", title, words, frame.svg);
}

function frontLine(points, frame) {
  // a step: what is not above the line is beaten by the point to its left
  let line = "";
  for (const [place, [x, y]] of points.entries()) line += place ? ` H${x.toFixed(1)} V${y.toFixed(1)}` : `M${x.toFixed(1)},${y.toFixed(1)}`;
  return svgElement("path", { class: "front", d: `${line} H${frame.right}` });
}

function scatterPoint(row, [x, y], onFront, isBeyond, kind, task) {
  const unit = kind === "ece" ? `ECE ${percent(rows.ece[row])}` : `time ${number(rows.time[row], 2)} ×`;
  const words = `${rows.method[row]}: ${task.headline} ${percent(rows.headline[row])}, ${unit}`;
  const dot = isBeyond ? svgElement("path", { class: "point", d: `M${(x - 4).toFixed(1)},${(y - 5).toFixed(1)} l9,5 l-9,5 z` }) :
    svgElement("circle", { class: onFront ? "point on" : "point", cx: x.toFixed(1), cy: y.toFixed(1), r: onFront ? 5 : 3.5 });
  return svgElement("a", { href: `#${encodeURI(pathOf(row))}`, "aria-label": words, tabindex: onFront ? 0 : -1 }, svgElement("title", {}, words), dot);
}

// A name stands where it covers neither a point nor another name; where there is no such place it is left to the title.
function labelPoints(frame, labels, points) {
  const taken = points.map(([x, y]) => [x - 4, y - 4, x + 4, y + 4]);
  for (const [name, x, y] of labels) {
    const width = 6.6 * name.length;
    // above first: the line of the front runs to the right
    const places = [
      [x + 5, y - 7, "start"], [x - 5, y - 7, "end"], [x - 9, y + 4, "end"], [x + 5, y + 16, "start"],
      [x - 5, y + 16, "end"], [x, y - 9, "middle"], [x, y + 18, "middle"], [x + 9, y + 4, "start"],
      [x + 5, y - 20, "start"], [x - 5, y - 20, "end"], [x - 5, y + 29, "end"], [x + 5, y + 29, "start"],
    ];
    for (const [left, base, anchor] of places) {
      const from = anchor === "start" ? left : anchor === "end" ? left - width : left - width / 2;
      const box = [from, base - 10, from + width, base + 3];
      const inside = box[0] > frame.left && box[2] < frame.right && box[1] > frame.top && box[3] < frame.bottom;
      if (!inside || taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      frame.svg.append(svgElement("text", { class: "name", x: left.toFixed(1), y: base.toFixed(1), "text-anchor": anchor }, name));
      break;
    }
  }
}
