// Numbers as text, and elements made of text alone: nothing that comes with the data is ever read as markup.
const MISSING = "–";

function number(value, digits) {
  if (value === null || value === undefined) return MISSING;
  let [whole, rest] = Math.abs(value).toFixed(digits).split(".");
  whole = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const text = rest === undefined ? whole : `${whole}.${rest}`;
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

const percent = (value, digits = 2) => (value === null ? MISSING : `${number(100 * value, digits)} %`);

const significant = (value) => (value === 0 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3))));

function rankText(row) {
  const low = rows.low[row], high = rows.high[row];
  if (low === null) return MISSING;
  return low === high ? String(low) : `${low}–${high}`;
}

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}
