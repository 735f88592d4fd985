// One task: how it stands and why, what it costs, what else there was, its life, what it gave.

import { actButton, orderButton } from "./acts.js";
import { bar, card, el, figure, moment, morph, state, table, taskLink } from "./draw.js";
import { age, amount, count, duration, usd } from "./words.js";

const MONEY = [["compute_usd", "Compute"], ["egress_usd", "Egress of its data"], ["stall_usd", "GPUs waiting for data"], ["latency_usd", "Latency"], ["risk_usd", "Risk on spot"], ["move_usd", "Move"]];
const ENDED = ["succeeded", "failed", "cancelled"];

export function taskPage(context, body) {
  const path = `/v1/tasks/${encodeURIComponent(context.id)}`;
  const why = el("div", {}), top = el("div", {}), rest = el("div", {});
  let explainedFor = null, due = 0;
  body.replaceChildren(top, why, rest);
  async function explain(found) {
    if (ENDED.includes(found.task.state)) { why.replaceChildren(); return; }
    if (!why.children.length) why.replaceChildren(card(found.task.state === "waiting" ? "Why it waits" : "Where else it could be", el("p.faint", {}, "Asking the planner …")));
    try {
      const told = await context.ask(`${path}/explanation`);
      if (!isOfNow(told, found.task)) throw new Error("The tables follow within seconds.");
      why.replaceChildren(...explained(told, found).filter(Boolean));
    } catch (error) {
      if (error.name === "AbortError") return;
      explainedFor = null; // the tables may follow in a moment
      why.replaceChildren(card("Why", el("p", {}, found.task.reason || ""), el("p.faint", {}, error.message)));
    }
  }
  return {
    every: 5,
    load: () => context.ask(`${path}?reasons=0`),
    draw(found) {
      morph(top, head(found, context, path));
      morph(rest, life(found));
      const mark = `${found.task.state}-${found.history.length}`;
      if (mark !== explainedFor) { explainedFor = mark; explain(found); }
    },
    hear(changes) { if (changes.some((one) => one.task_id === context.id) && Date.now() - due > 300) { due = Date.now(); setTimeout(context.wake, 100); } },
  };
}

// What is explained from the tables may be of before the last change, which the ledger tells.
function isOfNow(told, task) {
  if (task.state === "waiting") return Boolean(told.waits);
  const regions = (told.placed || []).map((copy) => copy.region);
  return regions.length > 0 && regions.every((name) => task.regions.includes(name));
}

function acts(found, context, path) {
  const task = found.task, allowed = context.me.acts || {};
  if (!context.me.may_act || ENDED.includes(task.state)) return [];
  const buttons = Object.keys(allowed).filter((op) => op !== (task.held ? "hold" : "release")).map((op) => actButton(context, path, op, task.task_id));
  if (context.me.orders?.move && task.regions?.length)
    buttons.push(orderButton(context, "Move", { order: { order: "move", task_id: task.task_id }, title: `Move ${task.task_id}`, fields: [
      { name: "region", title: "To region", options: async () => (await context.ask("/v1/regions")).regions.map((row) => row.region).filter((name) => !task.regions.includes(name)) },
      ...(found.placed.length > 1 ? [{ name: "copy", title: "Copy", options: async () => found.placed.map((one) => one.copy), number: true }] : [])] }));
  return buttons;
}

function head(found, context, path) {
  const task = found.task, request = found.request;
  const since = task.changed_at ? duration(Math.max(0, age(task.changed_at))) : "";
  const data = (request.data || []).reduce((sum, one) => sum + (one.size_gb || 0), 0);
  return [
    el("div.standing", {}, state(task.held && task.state === "waiting" ? "held" : task.state), el("span.faint", {}, since ? `for ${since}` : ""),
      el("span", {}, (task.regions || []).join(", ")), el("span.acts", {}, acts(found, context, path))),
    el("div.figures", {},
      figure("Asks for", amount(task.gpus ?? null), task.gpus === 1 ? "GPU" : "GPUs", [`${amount(request.workers || 1)} worker${(request.workers || 1) === 1 ? "" : "s"}`, request.per_worker?.gpu_models?.join(" or "), request.replicas > 1 ? `${request.replicas} copies` : ""].filter(Boolean).join(", ")),
      figure("Costs", task.cost_usd_per_hour ? usd(task.cost_usd_per_hour) : "0", "USD/h", `expected for ${duration(request.expected_s || 3600)}`),
      figure("Priority", amount(task.priority), "", `tenant ${task.tenant || "default"}`),
      task.value_usd_per_hour === null || task.value_usd_per_hour === undefined ? "" : figure("An hour's delay costs", usd(task.value_usd_per_hour), "USD", request.value_usd_per_hour === undefined || request.value_usd_per_hour === null ? "by its GPUs and priority" : "as its request says"),
      data ? figure("Data", amount(data), "GB", (request.data || []).map((one) => one.dataset || one.region).filter(Boolean).join(", ")) : "",
      figure("Submitted", moment(task.submitted_at), "", request.deadline ? el("span", {}, "deadline ", moment(new Date(request.deadline).toISOString())) : "no deadline")),
  ];
}

function explained(told, found) {
  const parts = [];
  if (told.waits) {
    const waits = told.waits, reason = waits.now || waits.recorded || "nothing keeps it: the next plan places it";
    const start = waits.start;
    parts.push(card("Why it waits", el("p.dominant", {}, reason),
      waits.recorded && waits.recorded !== reason ? el("p.faint", {}, `The last plan said: ${waits.recorded}`) : null,
      start ? el("p", {}, el("strong", {}, "Starts "), startWords(start)) : null,
      told.value ? el("p", {}, told.value.words) : null,
      waits.remedies?.length ? [el("h3", {}, "What would let it in"), el("ul", {}, waits.remedies.map((one) => el("li", {}, sentence(one))))] : null));
    if (waits.options?.length) parts.push(card("Region by region", options(waits.options)));
  }
  for (const copy of told.placed || []) {
    const chosen = MONEY.map(([name, title]) => [title, copy.chosen_usd?.[name]]).filter(([, usd]) => usd), sum = chosen.reduce((all, [, usd]) => all + usd, 0);
    const best = copy.next_best;
    parts.push(card(found.placed.length > 1 ? `Copy ${copy.copy}: ${copy.region}` : `Why ${copy.region}`,
      chosen.length ? table([["Cost of the whole run", ([title]) => title], ["", ([, usd]) => bar(usd / sum, ""), { name: "Share" }], ["USD", ([, value]) => usd(value), { right: true }]], [...chosen], { caption: "Cost by component" }) : el("p.faint", {}, "Its cost by component is not recorded."),
      chosen.length ? el("p", {}, el("strong", {}, `${usd(sum)} USD`), ` in ${copy.pool_id}`) : null,
      best ? el("p", {}, "Next best: ", el("strong", {}, best.region), ` for ${usd(best.usd)} USD`, copy.here_now_usd ? `; here it would be ${usd(copy.here_now_usd)} USD now` : "") : el("p.faint", {}, "No other region would take it now."),
      copy.options?.length ? el("details", {}, el("summary", {}, "Every region now"), options(copy.options)) : null));
  }
  if (told.unread?.length) parts.push(card("Not read", el("ul", {}, told.unread.map((words) => el("li", {}, words)))));
  return parts;
}

// Half of the time by p50_h, nine times of ten by p90_h; null means that no end of what runs lets it in.
function startWords({ p10_h, p50_h, p90_h }) {
  if (p50_h === null || p50_h === undefined) return "not as things stand";
  const late = p90_h === null || p90_h === undefined ? "later, or not" : duration(p90_h * 3600);
  return `in ${duration(p50_h * 3600)}, most likely; in ${duration((p10_h ?? 0) * 3600)} at the earliest, ${late} at the latest`;
}

function sentence(remedy) {
  if (typeof remedy === "string") return remedy;
  const words = remedy.words || remedy.change || remedy.what || remedy.detail;
  return words ? `${words}` : Object.entries(remedy).filter(([, value]) => value !== null && typeof value !== "object").map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`).join(", ");
}

function options(rows) {
  return table([["Region", (row) => row.region], ["Pool", (row) => row.pool_id || ""], ["USD, whole run", (row) => (row.usd === null ? "" : usd(row.usd)), { right: true }],
    ["Why not", (row) => row.reason || "", { wide: true }]], rows, { caption: "Regions" });
}

function life(found) {
  const parts = [], asked = found.history.find((row) => row.topic_offset !== null && row.topic);
  const steps = found.history.map((row) => ({ at: row.decided_at, source: "ledger", what: row.transition, row }));
  if (asked?.topic_timestamp_ms) steps.push({ at: new Date(asked.topic_timestamp_ms).toISOString(), source: "Kafka", what: "requested",
    words: `${asked.topic}, partition ${asked.topic_partition}, offset ${count(asked.topic_offset)}` });
  for (const run of found.runs) if (run.started_at) steps.push({ at: run.started_at, source: "agent", what: "started", words: `${run.region}, epoch ${run.epoch}` });
  steps.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
  if (found.runs.length) parts.push(card("What its runs gave", table([
    ["Ended", (run) => moment(run.ended_at), { right: true }], ["", (run) => state(run.state)], ["Region", (run) => run.region || ""],
    ["Ran for", (run) => (run.started_at ? duration((Date.parse(run.ended_at) - Date.parse(run.started_at)) / 1000) : ""), { right: true }],
    ["Exit", (run) => run.exit_code ?? "", { right: true }],
    ["Result", (run) => (run.result ? el("code", {}, JSON.stringify(run.result)) : Object.entries(run.metrics).map(([name, value]) => `${name} ${amount(value)}`).join(", ")), { wide: true }],
    ["Log", (run) => (run.log ? el("code", {}, run.log) : ""), { wide: true }],
  ], found.runs, { caption: "Runs" }), el("p.faint", {}, "Its output: ", el("code", {}, `thalweg logs ${found.task.task_id}`))));
  parts.push(card("Its life", !steps.length ? el("p.empty", {}, "No row of the ledger tells of it any more.") : el("ol.steps", {}, steps.map((step, at) => el("li", {}, moment(step.at), el("span.source", {}, step.source), state(step.what),
    el("span", {}, step.words || [step.row.region, step.row.copy ? `copy ${step.row.copy}` : "", step.row.cost_usd_per_hour ? `${usd(step.row.cost_usd_per_hour)} USD/h` : "", step.row.reason].filter(Boolean).join(" · ")),
    at ? el("span.faint", {}, `+${duration(Math.max(0, (Date.parse(step.at) - Date.parse(steps[at - 1].at)) / 1000))}`) : "")))));
  if (found.request.array) parts.push(card("Its elements", el("a", { href: `#/tasks?array=${encodeURIComponent(found.task.task_id)}` }, "List them")));
  if (found.request.after?.length) parts.push(card("Waits for", el("ul", {}, found.request.after.map((one) => el("li", {}, taskLink(one.task_id || one))))));
  parts.push(el("details.card", {}, el("summary", {}, "Its request, as it was sent"), el("pre", {}, JSON.stringify(found.request, null, 2))));
  return parts;
}
