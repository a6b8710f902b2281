// Weeks as a calendar has them: one without a review is a gap, not nothing.

const WEEK_MS = 7 * 24 * 3600 * 1000;

/** The Mondays (ISO dates) from the first to the last of rows with a `week`. */
export function mondays(rows) {
  if (rows.length === 0) return [];
  const [first, last] = [Math.min, Math.max].map((most) => most(...rows.map((row) => Date.parse(row.week))));
  return Array.from({ length: Math.round((last - first) / WEEK_MS) + 1 }, (_, at) => new Date(first + at * WEEK_MS).toISOString().slice(0, 10));
}

/** One entry a Monday: {week, decided, approved, reviews, outputs, approval, score}; null where there was nothing to count. */
export function byWeek(rows, calendar = mondays(rows)) {
  const parts = Map.groupBy(rows, (row) => row.week);
  return calendar.map((week) => {
    const own = parts.get(week) ?? [];
    const sums = Object.fromEntries(["decided", "approved", "reviews", "outputs"].map((name) => [name, total(own, name)]));
    return { week, ...sums, approval: share(own), score: own.length === 1 ? own[0].scores.overall ?? null : null };
  });
}

export function total(rows, name) {
  return rows.reduce((sum, row) => sum + row[name], 0);
}

/** Approved of the decided, null where nothing is decided. */
export function share(rows) {
  const decided = total(rows, "decided");
  return decided ? total(rows, "approved") / decided : null;
}
