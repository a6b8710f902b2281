// How strict each reviewer is, what they want, and how far they agree.

import { get, whole } from "../api.js";
import { badge, h, sheet } from "../dom.js";
import { certainty, count, DASH, interval, number, percent, plural, signed, words } from "../format.js";
import { forest, weekly } from "../pictures.js";
import { table } from "../table.js";

const Z = 1.96;
const MOST_DRAWN = 40;
const NOT_COMPARABLE = "shares too few outputs with the others to be compared";

export const title = "Reviewers";

export async function show({ argument }) {
  const status = await get("agents", { limit: 1 });
  if (status.last_run === null) return [heading(), sheet("Nothing has been learned yet", h("p", {}, "Reviewers are compared after the first learning pass."))];
  const [{ reviewers }, agreement] = await Promise.all([whole("reviewers", "reviewers"), get("agreement")]);
  if (reviewers.length === 0) return [heading(), sheet("No known reviewer", h("p", {}, "The reviews name nobody, so nobody can be compared."))];
  const one = reviewers.find((reviewer) => reviewer.reviewer_id === argument);
  const chosen = one ? person(one) : argument === null ? null : sheet("No such reviewer", h("p", {}, `Nobody with a review in the window goes by the name ${argument}.`));
  return [heading(), chosen, severity(reviewers), standards(reviewers), agreementSheet(agreement)];
}

function heading() {
  return h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title));
}

function margin({ severity: found }) {
  const se = found.se?.overall;
  return se === undefined || se === null || found.overall === null ? [null, null] : [found.overall - Z * se, found.overall + Z * se];
}

function severity(reviewers) {
  const known = reviewers.filter((reviewer) => reviewer.severity.overall !== null);
  if (known.length === 0) return sheet("Severity", h("p", {}, "Nobody's severity can be told: reviewers need outputs in common."));
  const half = MOST_DRAWN / 2;
  const drawn = known.length > MOST_DRAWN ? [...known.slice(0, half), ...known.slice(-half)] : known;
  const which = known.length > MOST_DRAWN ? `the ${half} strictest and the ${half} mildest of ${plural(reviewers.length, "reviewer")}` : `${drawn.length} of ${plural(reviewers.length, "reviewer")}`;
  return sheet("Severity", forest({
    title: "Points more or less than the average reviewer",
    summary: `Overall, of the same outputs, strictest first, with 95 % intervals; ${which}.`,
    unit: "points",
    rows: drawn.map((reviewer) => {
      const [low, high] = margin(reviewer);
      const label = reviewer.severity.comparable ? reviewer.reviewer_id : `${reviewer.reviewer_id} (not comparable)`;
      return { label, value: reviewer.severity.overall, low, high, note: plural(reviewer.n_reviews, "review") };
    }),
  }));
}

function standards(reviewers) {
  const overall = (reviewer) => reviewer.quality_standards?.overall ?? {};
  return sheet("What each one wants", table([
    { name: "Reviewer", cell: (reviewer) => h("a", { href: `#/reviewers/${encodeURIComponent(reviewer.reviewer_id)}` }, reviewer.reviewer_id), sort: (reviewer) => reviewer.reviewer_id },
    { name: "Reviews", number: true, cell: (reviewer) => count(reviewer.n_reviews), sort: (reviewer) => reviewer.n_reviews },
    { name: "Severity", number: true, cell: (reviewer) => `${signed(reviewer.severity.overall)} (${interval(...margin(reviewer))})`, sort: (reviewer) => reviewer.severity.overall },
    { name: "Half approved at", number: true, cell: (reviewer) => standard(overall(reviewer), "s50"), sort: (reviewer) => overall(reviewer).s50 },
    { name: "Four of five at", number: true, cell: (reviewer) => standard(overall(reviewer), "s80"), sort: (reviewer) => overall(reviewer).s80 },
    { name: "Likes", cell: (reviewer) => likes(reviewer.content_preferences) },
    { name: "Remarks", cell: (reviewer) => remarks(reviewer.severity) },
    { name: "Foreseen", number: true, cell: (reviewer) => percent(reviewer.model_accuracy), sort: (reviewer) => reviewer.model_accuracy },
  ], reviewers, { caption: "Standards are overall scores of the reviewer's own, in points. Foreseen = share of the latest decisions that a model of the earlier reviews gets right." }));
}

function standard({ censored, se, ...found }, name) {
  const value = found[name];
  if (value === null || value === undefined) return DASH;
  return `${censored ? `${censored}, ` : ""}${number(value, 1)}${se ? ` ± ${number(Z * se, 1)}` : ""}`;
}

function likes(preferences) {
  if (!preferences) return DASH;
  const { preferred_tone: tone, content_length: length, structure_preference: structure } = preferences;
  const known = [tone, structure && words(structure), length?.best ? `about ${count(Math.round(length.best))} words` : null].filter(Boolean);
  return known.length ? known.join(", ") : DASH;
}

function remarks({ comparable, drift }) {
  const told = [comparable ? null : badge("not comparable", "unsure"), drift?.drifted ? badge("has changed", "unsure") : null].filter(Boolean);
  return told.length ? told : DASH;
}

function person(reviewer) {
  const aspects = Object.entries(reviewer.severity.aspects ?? {}).filter(([, value]) => value !== null);
  const months = (reviewer.severity.months ?? []).filter((month) => month.severity !== null);
  return sheet(reviewer.reviewer_id,
    h("ul", { class: "facts" }, [
      plural(reviewer.n_reviews, "review"),
      reviewer.severity.comparable ? null : NOT_COMPARABLE,
      reviewer.severity.drift?.drifted ? `severity has changed by ${number(reviewer.severity.drift.spread)} points` : null,
    ].filter(Boolean).map((fact) => h("li", {}, fact))),
    h("div", { class: "columns" },
      aspects.length ? forest({
        title: "Severity by aspect",
        summary: "Points more or less than the average reviewer, with 95 % intervals.",
        unit: "points",
        rows: aspects.map(([aspect, value]) => {
          const se = reviewer.severity.se?.[aspect] ?? null;
          return { label: words(aspect), value, low: se === null ? null : value - Z * se, high: se === null ? null : value + Z * se };
        }),
      }) : null,
      months.length > 1 ? weekly({
        title: "Severity by month",
        summary: "Overall, within the outputs that others scored too.",
        name: "Severity",
        what: "outputs",
        when: "month",
        rows: months.map((month) => ({ week: month.month.slice(0, 7), label: month.month.slice(0, 7), value: month.severity, n: month.n_reviews })),
        shown: signed,
        bounds: null,
      }) : null),
    standardsOf(reviewer.quality_standards ?? {}),
    tastes(reviewer.style_preferences));
}

function standardsOf(found) {
  const rows = Object.entries(found).map(([aspect, values]) => ({ aspect, ...values }));
  if (rows.length === 0) return null;
  return table([
    { name: "Aspect", cell: (row) => words(row.aspect) },
    { name: "Half approved at", number: true, cell: (row) => standard(row, "s50") },
    { name: "Four of five at", number: true, cell: (row) => standard(row, "s80") },
    { name: "Decisions", number: true, cell: (row) => count(row.n) },
    { name: "Remark", cell: (row) => row.reason ?? DASH },
  ], rows, { caption: "Standards: the score, in points, at which this reviewer approves." });
}

function tastes(style) {
  const rows = Object.entries(style?.slopes ?? {});
  if (rows.length === 0) return null;
  return table([
    { name: "Property", cell: ([feature]) => words(feature) },
    { name: "On top of everybody", number: true, cell: ([, slope]) => signed(slope.difference) },
    { name: "Everybody", number: true, cell: ([, slope]) => signed(slope.population) },
    { name: "Probability", number: true, cell: ([, slope]) => certainty(slope.probability) },
  ], rows, { caption: `Properties that move this reviewer differently (${style.unit}).` });
}

function agreementSheet(agreement) {
  const { aspects, components, bridges, reason } = agreement;
  const rows = aspects.filter((row) => row.alpha !== null);
  return sheet("Agreement",
    rows.length ? forest({
      title: "Krippendorff's alpha",
      summary: "1 = perfect agreement, 0 = no more than chance, with 95 % intervals.",
      unit: "alpha",
      shown: (value) => number(value),
      rows: rows.map((row) => ({ label: words(row.aspect), value: row.alpha, low: row.ci_low, high: row.ci_high, note: `${number(row.alpha_adjusted)} once severity is taken out` })),
    }) : h("p", {}, reason ?? "Nothing was read by two reviewers, so agreement is not known."),
    rows.length ? table([
      { name: "Aspect", cell: (row) => words(row.aspect) },
      { name: "Alpha", number: true, cell: (row) => `${number(row.alpha)} (${interval(row.ci_low, row.ci_high, number)})` },
      { name: "Severity taken out", number: true, cell: (row) => `${number(row.alpha_adjusted)} (${interval(row.adjusted_ci_low, row.adjusted_ci_high, number)})` },
      { name: "Outputs", number: true, cell: (row) => count(row.n_outputs) },
      { name: "Reviewers", number: true, cell: (row) => count(row.n_reviewers) },
    ], rows, { caption: "What severity explains of the disagreement is the difference of the two." }) : null,
    components.length > 1 ? h("p", { class: "unsure" }, `The reviewers fall into ${components.length} groups that share no output, so their severities cannot be compared. ${plural(bridges.length, "second review")} would connect them:`) : null,
    bridges.length ? table([
      { name: "Agent", cell: (bridge) => bridge.agent_name },
      { name: "Execution", cell: (bridge) => h("code", {}, bridge.execution_id) },
      { name: "Let it be read by", cell: (bridge) => bridge.reviewer_id },
    ], bridges, { caption: "Second reviews that would connect all reviewers.", most: 10 }) : null);
}
