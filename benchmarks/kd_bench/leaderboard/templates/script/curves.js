// Curves of a training: one line a seed. Heights are stored as two characters of a base of 64.
const DIGITS = new Map([..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].map((sign, value) => [sign, value]));
const MAX_POINTS = 60;

function unpackCurves([low, high, text], epochs) {
  let at = 0;
  return epochs.map((count) => {
    const points = Math.min(count, MAX_POINTS), line = [];
    for (let point = 0; point < points; point++, at += 2) {
      const level = (DIGITS.get(text[at]) << 6) | DIGITS.get(text[at + 1]);
      line.push([1 + keptEpoch(point, points, count), low + (high - low) * (level / 4095)]);
    }
    return line;
  });
}

function keptEpoch(point, points, count) {
  return points === count ? point : Math.floor((2 * point * (count - 1) + points - 1) / (2 * (points - 1)));
}

function curveFigure(lines, seeds, title, yTitle, factor) {
  const values = lines.flat().map(([, value]) => factor * value);
  const last = Math.max(...lines.flat().map(([epoch]) => epoch));
  const step = Math.max(1, Math.round(roundStep(Math.max(1, (last - 1) / 5))));
  const frame = chart({
    width: 420, height: 260, title: `${title}, one line a seed`,
    x: { low: 1, high: Math.max(2, last), step }, y: spanned(values, 0.05, 5), xTitle: "Epoch", yTitle,
  });
  for (const [place, line] of lines.entries()) {
    const points = line.map(([epoch, value]) => `${frame.across(epoch).toFixed(1)},${frame.up(factor * value).toFixed(1)}`);
    const attributes = { class: `line hue-${place % 6}`, points: points.join(" ") };
    if (place >= 6) attributes["stroke-dasharray"] = "5 3";
    frame.svg.append(svgElement("polyline", attributes, svgElement("title", {}, `seed ${seeds[place]}`)));
  }
  return make("div", {}, make("h4", {}, title), frame.svg);
}

function seedLegend(seeds) {
  const items = seeds.map((seed, place) => {
    const attributes = { class: `line hue-${place % 6}`, x1: 0, x2: 22, y1: 6, y2: 6 };
    if (place >= 6) attributes["stroke-dasharray"] = "5 3";
    const key = svgElement("svg", { width: 22, height: 12, "aria-hidden": "true" }, svgElement("line", attributes));
    return make("li", {}, key, `seed ${seed}`);
  });
  return make("ul", { class: "legend" }, ...items);
}
