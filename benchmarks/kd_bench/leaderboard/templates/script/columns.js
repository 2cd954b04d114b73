// The columns depend on what is shown: scores of a task only where all rows are of that task.
function tableColumns() {
  const shown = shownBoards();
  const names = new Set(shown.map((board) => board.task));
  const task = names.size === 1 ? tasks[[...names][0]] : null;
  const quoted = ticked("reported") && shown.some((board) => board.quotes);
  return [
    { key: "rank", title: "rank", unit: "places", cell: (row) => rankText(row) },
    { key: "method", title: "method", unit: "", text: true },
    ...(shown.length > 1 ? [{ key: "board", title: "board", unit: "", text: true, cell: boardCell }] : []),
    { key: "family", title: "family", unit: "", text: true, cell: (row) => shared.family[rows.family[row]] },
    { key: "headline", title: task ? task.headline : "score", unit: "%, ± 95 %", first: "descending", cell: headlineCell },
    { key: "gap", title: "gap closed", unit: "%", first: "descending", cell: (row) => scaled(row, "gap", 100, 0) },
    ...(task ? task.columns : []).map((column) => ({
      ...column, cell: (row) => scaled(row, column.key, column.factor, column.digits),
    })),
    { key: "time", title: "time", unit: "× plain", cell: (row) => scaled(row, "time", 1, 2) },
    { key: "memory", title: "memory", unit: "MiB", cell: (row) => scaled(row, "memory", 1, 0) },
    { key: "seeds", title: "seeds", unit: "number", first: "descending", cell: (row) => String(rows.seeds[row]) },
    ...(shared.track.length > 1 ? [{ key: "track", title: "track", unit: "", text: true, cell: (row) => shared.track[rows.track[row]] }] : []),
    { key: "badge", title: "badge", unit: "", text: true, first: "descending", cell: badgeCell },
    // reported figures have no button: nothing is sorted by them
    ...(quoted ? [{ key: "", title: "reported", unit: "%, not ours", text: true, cell: quoteCell }] : []),
  ];
}

function scaled(row, key, factor, digits) {
  const value = rows[key][row];
  return value === null ? MISSING : number(factor * value, digits);
}

function boardCell(row) {
  const board = boardAt(row);
  return make("span", { class: "place" }, make("span", {}, board.protocol), make("small", {}, `${board.teacher} → ${board.student}`));
}

function headlineCell(row) {
  const half = rows.half[row];
  if (half === null) return number(100 * rows.headline[row], 2);
  return make("span", {}, number(100 * rows.headline[row], 2), make("span", { class: "margin" }, ` ± ${number(100 * half, 2)}`));
}

function badgeCell(row) {
  const badge = shared.badge[rows.badge[row]];
  const marks = [["withdrawn", FLAGS.withdrawn], ["challenged", FLAGS.challenged], ["corrected", FLAGS.corrected], ["extra data", FLAGS.extra]];
  const cell = make("span", {}, make("span", { class: badge === "claimed" ? "badge" : "badge checked" }, badge));
  for (const [word, flag] of marks) if (has(row, flag)) cell.append(" ", make("span", { class: "badge doubtful" }, word));
  return cell;
}

function quoteCell(row) {
  const quote = quoteOf(row);
  if (!quote) return "";
  const [value, selection, origin] = quote;
  return make("span", { title: origin }, `${value} `, make("small", {}, selection));
}
