// "Learn now": starts a pass and shows how far it has come.

import { get, post } from "./api.js";
import { h, outside } from "./dom.js";

const EVERY_MS = 1000;
const HICCUPS = new Set([0, 408, 503]);
const ENDED = new Set(["done", "failed", "cancelled"]);
const TONES = { done: "good", failed: "bad", cancelled: "unsure" };

/** Wires the button; `learned` is called when a pass has been published. */
export function startLearning(button, notice, learned) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { run_id: run, page, already_running: running } = await post("agents/*/learn");
      notice.replaceChildren(h("div", { class: "sheet" }, h("p", {}, running ? "A pass is under way already." : "A learning pass was asked for.")));
      if (await follow(run, page, notice)) learned();
    } catch (problem) {
      notice.replaceChildren(h("div", { class: "sheet" }, h("p", { class: "bad" }, `${problem.title ?? "Error"}: ${problem.message}`)));
    } finally {
      button.disabled = false;
    }
  });
}

async function follow(run, page, notice) {
  const bar = h("progress", { max: 1, "aria-label": "Steps of the learning pass" });
  const words = h("p");
  notice.replaceChildren(h("div", { class: "sheet" }, words, bar, h("p", {}, outside(page, "This run in Dagster"))));
  for (;; await new Promise((wake) => setTimeout(wake, EVERY_MS))) {
    const state = await progressOf(run);
    if (state === null) continue;
    if (state.steps_total > 0) {
      bar.max = state.steps_total;
      bar.value = state.steps_done;
    }
    words.className = TONES[state.status] ?? "";
    const text = told(state);
    // A status that is said again and again is noise to a screen reader.
    if (words.textContent !== text) words.textContent = text;
    if (ENDED.has(state.status)) return state.status === "done";
  }
}

/** How far the run is; null where the service is too busy to say, since the run goes on whoever watches. */
async function progressOf(run) {
  try {
    return await get(`runs/${encodeURIComponent(run)}`);
  } catch (problem) {
    if (HICCUPS.has(problem.status)) return null;
    throw problem;
  }
}

function told({ status, steps_done: done, steps_total: total, steps }) {
  if (status === "queued") return "The learning pass waits for its turn.";
  if (status === "done") return "Learned: what you see is of this pass.";
  if (status === "failed") return "The learning pass failed; its page in Dagster says why.";
  if (status === "cancelled") return "The learning pass was cancelled.";
  const running = steps.filter((step) => step.status === "running").map((step) => step.step.replaceAll("_", " "));
  return `Learning: ${done} of ${total} steps done${running.length ? `, now ${running.join(", ")}` : ""}.`;
}
