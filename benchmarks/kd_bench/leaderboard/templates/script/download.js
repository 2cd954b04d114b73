// The rows that are filtered in, as files made here: nothing is asked of a server.
function records() {
  const scores = [...new Set(Object.values(tasks).flatMap((task) => task.columns.map((column) => column.key)))];
  return found.map((row) => {
    const board = boardAt(row);
    return {
      protocol: board.protocol, teacher: board.teacher, student: board.student, method: rows.method[row],
      family: shared.family[rows.family[row]], track: shared.track[rows.track[row]], badge: shared.badge[rows.badge[row]],
      challenged: has(row, FLAGS.challenged), withdrawn: has(row, FLAGS.withdrawn), extra_data: has(row, FLAGS.extra),
      rank_low: rows.low[row], rank_high: rows.high[row], headline: tasks[board.task].headline, seeds: rows.seeds[row],
      mean: rows.headline[row], half_width: rows.half[row], gap_closed: rows.gap[row],
      ...Object.fromEntries(scores.map((key) => [key, rows[key][row]])),
      relative_time: rows.time[row], peak_memory_mb: rows.memory[row], paper: shared.paper[rows.paper[row]], entry: pathOf(row),
    };
  });
}

// Text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const line = value.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");
  const safe = /^\s*[=+\-@＝＋－＠]/u.test(line) ? `'${line}` : line;
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csvText(lines) {
  const names = lines.length ? Object.keys(lines[0]) : [];
  return [names, ...lines.map((line) => names.map((name) => line[name]))].map((cells) => cells.map(csvCell).join(",")).join("\n") + "\n";
}

function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const saveCsv = () => save("rows.csv", "text/csv;charset=utf-8", csvText(records()));
const saveJson = () => save("rows.json", "application/json", `${JSON.stringify({ schema_version: 1, entries: records() }, null, 1)}\n`);
