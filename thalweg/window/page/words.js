// Values as a person reads them: rounded, with a unit, a moment by its age. As thalweg/cli/terminal/words.py says them.

const LARGE = [[1e12, "T"], [1e9, "G"], [1e6, "M"]];
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  for (const [size, letter] of LARGE) if (Math.abs(value) >= size) return signed(`${threeOf(value / size)} ${letter}`);
  return signed(Number.isInteger(value) || Math.abs(value) >= 100 ? whole.format(value) : digits(value));
}

// What is counted one by one is said to the last one.
export function count(value) { return value === null || value === undefined ? "" : whole.format(value); }

// A number that something depends on: to six digits, and none that says nothing.
export function exactly(value) { return value === null || value === undefined ? "" : signed(String(Number(value.toPrecision(6)))); }

export function usd(value) {
  if (value === null || value === undefined) return "";
  if (Math.abs(value) >= 1e6) return amount(value);
  if (Math.abs(value) >= 1000) return signed(whole.format(value));
  return signed(value === 0 || Math.abs(value) >= 0.005 ? cents.format(value) : String(Number(value.toPrecision(2))));
}

export function percent(share) {
  if (share === null || share === undefined) return "";
  return Math.abs(share) < 5e-5 ? "0 %" : signed(`${Number((100 * share).toFixed(1))} %`);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "";
  if (value >= 95000) return duration(value / 1000);
  if (value >= 1000) return `${digits(value / 1000)} s`;
  return value >= 10 ? `${value.toFixed(0)} ms` : `${value.toFixed(1)} ms`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  for (const [name, size, from] of [["d", 86400, 2], ["h", 3600, 2], ["min", 60, 2]])
    if (seconds >= from * size) return `${Math.floor(seconds / size)} ${name}`;
  return seconds < 9.5 && seconds % 1 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

let ahead = 0; // the server's clock minus this machine's: ages are by the server's
export function clockIs(now) { if (now) ahead = Date.parse(now) - Date.now(); }
export function age(moment) { return moment ? (Date.now() + ahead - Date.parse(moment)) / 1000 : null; }

export function ago(moment) {
  const seconds = age(moment);
  if (seconds === null) return "";
  return seconds >= 0 ? `${duration(Math.floor(seconds))} ago` : `in ${duration(Math.ceil(-seconds))}`;
}

function digits(value) { return String(Number(value.toPrecision(3))); }
function threeOf(value) { const size = Math.abs(value); return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2); } // below each other they line up
function signed(text) { return text.replace(/^-/, "−"); }
