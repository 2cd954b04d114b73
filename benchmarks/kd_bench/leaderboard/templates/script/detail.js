// What unfolds under a row.
const sheets = new Map();
function detailSheet(row) {
  if (!sheets.has(row)) sheets.set(row, makeSheet(row));
  return sheets.get(row);
}

function makeSheet(row) {
  const sheet = make("div", { class: "detail sheet", "data-entry": pathOf(row) });
  const add = (title, content, wide) => sheet.append(make("section", { class: wide ? "wide" : null }, make("h4", {}, title), ...content));
  add("Seeds", [seedTable(row), ...comparisons(row).map((text) => make("p", { class: "quiet" }, text))], true);
  sheet.append(curvesPart(row));
  const reliability = detailAt(row, "reliability");
  if (reliability) sheet.append(reliabilityPart(row, reliability));
  add("Method", [facts(methodFacts(row))]);
  add("Environment", [facts(pooledAt(row, "environment"))]);
  add("History", [historyList(row)]);
  add("Reproduce", [make("pre", { tabindex: 0 }, make("code", {}, detailAt(row, "command")))], true);
  return sheet;
}

function facts(pairs) {
  return make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function methodFacts(row) {
  const [citation, address] = pooledAt(row, "citation");
  const paper = make("span", {}, citation);
  if (address) paper.append(" ", outside(address, "arXiv"));
  const licence = pooledAt(row, "licence"), contact = pooledAt(row, "contact");
  return [
    ...(citation ? [["paper", paper]] : []),
    ...pooledAt(row, "settings"),
    ["track", shared.track[rows.track[row]]],
    ...(licence ? [["licence", licence]] : []),
    ...(contact ? [["contact", contact]] : []),
  ];
}

function outside(address, text) {
  // only addresses that can do nothing but open a page
  return address.startsWith("https://") ? make("a", { href: address, rel: "noreferrer noopener nofollow" }, text) : text;
}

function seedTable(row) {
  const scores = detailAt(row, "scores"), seeds = pooledAt(row, "seeds"), devices = pooledAt(row, "devices");
  const seconds = detailAt(row, "seconds"), memory = detailAt(row, "memory"), epochs = detailAt(row, "curves")[0];
  const detector = tasks[boardAt(row).task].seedColumns;
  const titles = ["seed", ...(detector ?? ["accuracy", "NLL", "ECE", "agreement", "best epoch (not ranked)"]), "seconds", "memory (MiB)", "device"];
  const lines = seeds.map((seed, place) => {
    const of = scores.map((column) => column[place]);
    const measured = detector
      ? of.map((value) => percent(value))
      : [percent(of[0]), number(of[1], 4), percent(of[2]), percent(of[3]), `${percent(of[4])} (epoch ${of[5]} of ${epochs[place]})`];
    const cells = [String(seed), ...measured, number(seconds[place], 1), number(memory[place], 0), devices[place]];
    return make("tr", {}, ...cells.map((text) => make("td", {}, text)));
  });
  const head = make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title)));
  return make("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Scores of the seeds" },
    make("table", { class: "seeds" }, make("thead", {}, head), make("tbody", {}, ...lines)));
}

function comparisons(row) {
  const points = (value) => number(100 * value, 2), task = tasks[boardAt(row).task];
  const reference = detailAt(row, "reference"), best = detailAt(row, "best"), found = [];
  if (reference) {
    const [difference, half, seeds, p] = reference;
    found.push(`Against ${task.reference}, paired over ${seeds} seeds: ${points(difference)} points ± ${points(half)} ` +
      `(95 % interval), sign-flip p = ${significant(p)}.`);
  }
  if (best) {
    const [difference, half, p] = best;
    found.push(`Against the highest mean of the board: ${points(difference)} points ± ${points(half)} (interval that holds ` +
      `for all pairs of the board together), adjusted p = ${significant(p)}.`);
  }
  return found;
}

function curvesPart(row) {
  const [epochs, loss, validation] = detailAt(row, "curves"), seeds = pooledAt(row, "seeds");
  const name = tasks[boardAt(row).task].headline, part = make("section", { class: "wide lines" });
  part.append(make("h4", {}, "Course of the training"), seedLegend(seeds));
  const pair = make("div", { class: "pair" });
  if (validation) pair.append(curveFigure(unpackCurves(validation, epochs), seeds, `Validation ${name}`, `Validation ${name} (%)`, 100));
  pair.append(curveFigure(unpackCurves(loss, epochs), seeds, "Training loss", "Training loss, all terms", 1));
  part.append(pair);
  return part;
}

function reliabilityPart(row, summary) {
  return make("section", { class: "reliability" },
    make("h4", {}, "Reliability"),
    make("p", { class: "quiet" }, "15 bins, all seeds pooled. Bars below the dashed line: over-confident; pale bars: under 0.5 % of the samples."),
    reliabilitySvg(rows.method[row], summary),
    make("p", { class: "quiet" }, reliabilitySummary(summary)));
}

function historyList(row) {
  const events = [
    ...detailAt(row, "verifications").map((record) => ({ date: record[0], text: verificationText(record) })),
    ...detailAt(row, "corrections").map((one) => ({ date: one[0], text: correctionText(one), address: one[4] })),
  ];
  if (!events.length) return make("p", { class: "quiet" }, "Claimed by its authors; nobody has verified or challenged it yet.");
  events.sort((a, b) => (a.date < b.date ? -1 : a.date > b.date ? 1 : 0));
  return make("ol", { class: "history" }, ...events.map(({ date, text, address }) => {
    const item = make("li", {}, make("time", { datetime: date }, date), ` ${text}`);
    if (address) item.append(" ", outside(address, "evidence"));
    return item;
  }));
}

function verificationText([, by, level, tolerance, mean, present, remarks]) {
  const allowed = [`${number(100 * tolerance, 2)} points a seed`, ...(mean === null ? [] : [`${number(100 * mean, 2)} of the mean`])];
  const old = present ? "" : " Of an earlier state of the files: no longer counts.";
  return `${level} by ${by}; accepted difference ${allowed.join(", ")}.${old}${remarks.map((text) => ` ${text}`).join("")}`;
}

function correctionText([, kind, by, reason, , answers, badge, id]) {
  const about = answers ? ` (answers ${answers})` : kind === "challenge" ? ` (${id})` : "";
  return `${kind}${about} by ${by}${badge ? `, at most “${badge}” from then on` : ""}: ${reason}`;
}
