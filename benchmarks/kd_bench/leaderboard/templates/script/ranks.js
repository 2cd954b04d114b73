// Average ranks over boards: names hang from the axis, bars join those that lie within one critical difference.
function ranksFigure() {
  const { boards: on, names, ranks, distance, bars, p, leftOutMethods, leftOutBoards } = data.across;
  const width = 760, left = 190, right = 190, line = 17, top = 46;
  const low = 1, high = names.length, half = Math.ceil(names.length / 2);
  const x = (rank) => left + ((rank - low) / (high - low)) * (width - left - right);
  const under = top + 14 + 7 * bars.length, height = under + line * half + 14;
  const title = `Average ranks of ${names.length} methods over ${on.length} boards; critical difference ${number(distance, 2)}`;
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, svgElement("title", {}, title));
  const draw = (name, attributes, ...text) => svg.append(svgElement(name, attributes, ...text));
  draw("line", { class: "rule", x1: x(low), x2: x(high), y1: top, y2: top });
  for (const { value, label } of ticksOf(low, high, Math.max(1, Math.ceil((high - low) / 8)))) {
    if (value < low) continue;
    draw("line", { class: "rule", x1: x(value), x2: x(value), y1: top - 5, y2: top });
    draw("text", { x: x(value), y: top - 9, "text-anchor": "middle" }, label);
  }
  const reach = Math.min(x(low + distance), width - 4);
  draw("path", { class: "distance", d: `M${x(low)},10 v8 M${x(low)},14 H${reach} M${reach},10 v8` });
  draw("text", { x: x(low) - 6, y: 18, "text-anchor": "end" }, `critical difference ${number(distance, 2)}`);
  draw("text", { x: width - right + 12, y: top + 4 }, "average rank");
  for (const [place, name] of names.entries()) {
    const first = place < half, y = under + line * (first ? place : names.length - 1 - place) + 4;
    const end = first ? left - 12 : width - right + 12, at = x(ranks[place]).toFixed(1);
    draw("path", { class: "hanger", d: `M${at},${top} V${y} H${end}` });
    const text = `${name.length > 20 ? `${name.slice(0, 19)}…` : name}`, score = number(ranks[place], 1);
    draw("text", { class: "name", x: first ? end - 4 : end + 4, y: y + 4, "text-anchor": first ? "end" : "start" },
      first ? `${text} ${score}` : `${score} ${text}`, svgElement("title", {}, `${name}: average rank ${number(ranks[place], 2)}`));
  }
  for (const [place, [from, to]] of bars.entries()) {
    const y = top + 10 + 7 * place;
    draw("line", { class: "tied", x1: x(ranks[from]) - 3, x2: x(ranks[to]) + 3, y1: y, y2: y });
  }
  const caption = `${names.length} methods that all of ${on.length} boards have (${on.join("; ")}). Bars join methods whose ` +
    `ranks the data cannot tell apart (Nemenyi, 5 %). Friedman's p = ${significant(p)}.` +
    (leftOutMethods || leftOutBoards ? ` Left out: ${leftOutMethods} methods and ${leftOutBoards} boards that lack some of the others.` : "");
  const box = make("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": title }, svg);
  return figure("ranks", "Average ranks across boards", caption, box);
}
