// What the figures share: SVG elements, round ticks, and a frame with axes and units.
function svgElement(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function roundStep(raw) {
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((step) => step * magnitude).find((step) => step >= raw * (1 - 1e-9));
}

function ticksOf(low, high, step) {
  const decimals = Math.max(0, Math.min(6, (String(Number(step.toPrecision(6))).split(".")[1] ?? "").length));
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index <= Math.floor(high / step + 1e-9); index++) {
    ticks.push({ value: index * step, label: (index * step).toFixed(decimals) });
  }
  return ticks;
}

function spanned(values, padding, count) {
  let low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || Math.abs(high) * 0.1 || 1) * padding;
  low = low >= 0 ? Math.max(0, low - margin) : low - margin;
  high += margin;
  return { low, high, step: roundStep((high - low) / count) };
}

// An SVG with a frame, ticks and titles of both axes; returns it with the functions that place a value.
function chart({ width, height, title, x, y, xTitle, yTitle }) {
  const left = 58, right = 14, top = 10, bottom = 46;
  const across = (value) => left + ((value - x.low) / (x.high - x.low)) * (width - left - right);
  const up = (value) => height - bottom - ((value - y.low) / (y.high - y.low)) * (height - top - bottom);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  svg.append(svgElement("title", {}, title));
  for (const tick of ticksOf(x.low, x.high, x.step)) {
    const at = across(tick.value).toFixed(1);
    svg.append(
      svgElement("line", { class: "grid", x1: at, x2: at, y1: top, y2: height - bottom }),
      svgElement("text", { x: at, y: height - bottom + 16, "text-anchor": "middle" }, tick.label),
    );
  }
  for (const tick of ticksOf(y.low, y.high, y.step)) {
    const at = up(tick.value).toFixed(1);
    svg.append(
      svgElement("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }),
      svgElement("text", { x: left - 6, y: at, dy: 4, "text-anchor": "end" }, tick.label),
    );
  }
  const middle = (top + height - bottom) / 2;
  svg.append(
    svgElement("rect", { class: "frame", x: left, y: top, width: width - left - right, height: height - top - bottom }),
    svgElement("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xTitle),
    svgElement("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, yTitle),
  );
  return { svg, across, up, left, right: width - right, top, bottom: height - bottom };
}

function figure(kind, title, caption, ...parts) {
  return make("figure", { class: kind }, make("figcaption", {}, make("strong", {}, title), caption), ...parts);
}
