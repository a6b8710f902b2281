// Numbers and times as people read them. What is undefined is a dash.

export const DASH = "–";
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const MOMENT = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

const missing = (value) => value === null || value === undefined || !Number.isFinite(value);

export function number(value, digits = 2) {
  return missing(value) ? DASH : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

export function count(value) {
  return missing(value) ? DASH : value.toLocaleString("en");
}

export function percent(share, digits = 0) {
  return missing(share) ? DASH : `${number(100 * share, digits)} %`;
}

/** A difference of shares, with its sign. */
export function points(difference, digits = 1) {
  return missing(difference) ? DASH : `${signed(100 * difference, digits)} points`;
}

export function signed(value, digits = 2) {
  return missing(value) ? DASH : `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value), digits)}`;
}

export function interval(low, high, shown = (value) => signed(value)) {
  return missing(low) && missing(high) ? DASH : `${shown(low)} to ${shown(high)}`;
}

/** Between two differences of shares. */
export function between(low, high, digits = 1) {
  return missing(low) && missing(high) ? DASH : `${interval(100 * low, 100 * high, (value) => signed(value, digits))} points`;
}

/** A probability that is short of certainty is never called certain. */
export function certainty(probability) {
  return probability > 0.994 && probability < 1 ? "> 99 %" : percent(probability);
}

export function moment(iso) {
  return iso ? MOMENT.format(new Date(iso)) : DASH;
}

export function ago(iso) {
  if (!iso) return DASH;
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return RELATIVE.format(Math.round(seconds / length), unit);
}

/** snake_case as words. */
export function words(name) {
  return String(name ?? "").replaceAll("_", " ");
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
