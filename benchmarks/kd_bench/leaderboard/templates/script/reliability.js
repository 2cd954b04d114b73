// Reliability: fifteen bins of confidence; bar = accuracy in the bin, strip below = share of the samples.
const BINS = 15, RARE = 0.005;

function reliabilitySummary([error, bias]) {
  const tendency = bias > 0 ? "over-confident" : "under-confident";
  return `Pooled ECE ${percent(error)}, ${tendency} by ${percent(Math.abs(bias))} on average.`;
}

function reliabilitySvg(name, summary) {
  const left = 44, top = 8, size = 264, shareTop = 292, shareHeight = 40;
  const x = (value) => left + value * size;
  const y = (value) => top + (1 - value) * size;
  const svg = svgElement("svg", {
    viewBox: "0 0 320 368", role: "img", "aria-label": `Reliability diagram of ${name}: ${reliabilitySummary(summary)}`,
  });
  const draw = (element, attributes, ...text) => svg.append(svgElement(element, attributes, ...text));
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    draw("line", { class: "grid", x1: left, x2: left + size, y1: y(tick), y2: y(tick) });
    draw("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick * 100));
    draw("text", { x: x(tick), y: shareTop + shareHeight + 14, "text-anchor": "middle" }, String(tick * 100));
  }
  const bins = summary[2], most = Math.max(...bins.map((bin) => bin[3]));
  for (const [place, confidence, accuracy, share] of bins) {
    const low = place / BINS, width = size / BINS - 1.5;
    const title = `confidence ${percent(low, 1)} to ${percent(low + 1 / BINS, 1)}: mean confidence ` +
      `${percent(confidence, 1)}, accuracy ${percent(accuracy, 1)}, ${percent(share, 1)} of the samples`;
    const kind = share < RARE ? "bar rare" : "bar", height = (share / most) * shareHeight;
    draw("rect", { class: kind, x: x(low), y: y(accuracy), width, height: accuracy * size }, svgElement("title", {}, title));
    draw("rect", { class: "share", x: x(low), y: shareTop + shareHeight - height, width, height }, svgElement("title", {}, title));
  }
  draw("rect", { class: "frame", x: left, y: top, width: size, height: size });
  draw("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) });
  draw("text", { x: left + size / 2, y: shareTop + shareHeight + 32, "text-anchor": "middle" }, "Confidence of the predicted class (%)");
  draw("text", { transform: `translate(11 ${top + size / 2}) rotate(-90)`, "text-anchor": "middle" }, "Accuracy (%)");
  draw("text", { x: left - 6, y: shareTop + shareHeight - 12, "text-anchor": "end" }, "share");
  return svg;
}
