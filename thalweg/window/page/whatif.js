// What if: settings, prices, limits and capacity that are only supposed; the plan they would give beside the one there is.

import { field } from "./acts.js";
import { made } from "./ask.js";
import { card, el, morph, table, taskLink, trouble } from "./draw.js";
import { amount, percent, usd } from "./words.js";

const KINDS = { price: "A price", capacity: "Capacity", tenant: "A tenant's limits", drain: "A drained region", setting: "A setting" };

export function whatIfPage(context, body) {
  const supposed = [];
  const list = el("ul.supposed", { "aria-label": "Supposed" }), fields = el("div.fields", {}), result = el("div", { "aria-live": "polite" });
  let known = null, read = null, busy = false;

  const number = (name, title, how = {}) => ({ name, title, type: "number", step: "any", ...how });
  const regions = () => known.regions.map((row) => row.region);
  const models = () => [...new Set(known.regions.flatMap((row) => row.prices.map((one) => one.gpu_model)))];
  const asked = {
    price: () => [{ name: "region", title: "Region", options: regions }, { name: "gpu_model", title: "GPU model", options: models },
      { name: "spot", title: "Spot", type: "checkbox" }, number("usd_per_gpu_hour", "USD per GPU-hour", { min: "0", required: true })],
    capacity: () => [{ name: "region", title: "Region", options: regions }, { name: "gpu_model", title: "GPU model", options: models },
      { name: "spot", title: "Spot", type: "checkbox" }, number("nodes", "Nodes more (less: a minus)", { step: "1", required: true, value: "1" })],
    tenant: () => [{ name: "tenant", title: "Tenant", required: true }, number("quota_gpus", "Quota, GPUs", { min: "0" }), number("weight", "Weight", { min: "0" }), number("budget_usd_per_hour", "Budget, USD an hour", { min: "0" })],
    drain: () => [{ name: "region", title: "Region", options: regions }],
    setting: () => [{ name: "name", title: "Setting of the place job", options: () => Object.keys(known.settings) }, { name: "value", title: "Value", required: true }],
  };
  const words = {
    price: (one) => `${one.gpu_model}${one.spot ? " spot" : ""} in ${one.region} costs ${usd(one.usd_per_gpu_hour)} USD a GPU-hour`,
    capacity: (one) => `${amount(Math.abs(one.nodes))} ${one.nodes < 0 ? "fewer" : "more"} nodes of ${one.gpu_model}${one.spot ? " spot" : ""} in ${one.region}`,
    tenant: (one) => `tenant ${one.tenant}: ${[["quota_gpus", "quota", "GPUs"], ["weight", "weight", ""], ["budget_usd_per_hour", "budget", "USD/h"]].filter(([name]) => one[name] != null).map(([name, title, unit]) => `${title} ${amount(one[name])} ${unit}`.trim()).join(", ")}`,
    drain: (one) => `${one.region} is drained`,
    setting: (one) => `${one.name} is ${one.value} (now ${known.settings[one.name] ?? "not set"})`,
  };

  function drawList() {
    list.replaceChildren(...supposed.map(({ kind, said }, at) => el("li", {}, el("span", {}, words[kind](said)),
      el("button.quiet", { type: "button", "aria-label": `Take away: ${words[kind](said)}`, onclick: () => { supposed.splice(at, 1); drawList(); form.querySelector("select").focus(); } }, "Take away"))));
    if (!supposed.length) list.append(el("li.none.empty", {}, "Nothing yet: suppose something above, then plan it."));
  }

  async function drawFields() {
    const shown = await Promise.all(asked[kind.value]().map(field));
    fields.replaceChildren(...shown.map((one) => one.element));
    read = () => Object.fromEntries(shown.map((one) => [one.name, one.read()]).filter(([, value]) => value !== null));
  }

  const kind = el("select", { id: "kind", onchange: drawFields }, Object.entries(KINDS).map(([value, title]) => el("option", { value }, title)));
  const form = el("form.suppose", { onsubmit: (event) => { event.preventDefault(); supposed.push({ kind: kind.value, said: read() }); drawList(); } },
    el("p.field", {}, el("label", { for: "kind" }, "Suppose"), kind), fields, el("p.field", {}, el("button", {}, "Add")));
  const afresh = el("input", { type: "checkbox", id: "afresh" });
  const go = el("button.main", { type: "button", onclick: plan }, "Plan it");

  function document_() {
    const of = (name) => supposed.filter((one) => one.kind === name).map((one) => one.said);
    return {
      settings: Object.fromEntries(of("setting").map((one) => [one.name, valued(one.value)])),
      orders: [...of("price").map((one) => ({ order: "price", ...one })), ...of("tenant").map((one) => ({ order: "tenant", ...one })), ...of("drain").map((one) => ({ order: "drain", ...one }))],
      capacity: of("capacity"), afresh: afresh.checked,
    };
  }

  async function plan() {
    if (busy) return;
    busy = true; go.disabled = true;
    result.replaceChildren(el("p.faint", {}, "Planning both …"));
    const body = document_();
    try { result.replaceChildren(...compared(await made(() => context.ask("/v1/what-if", { method: "POST", body }), (far) => result.replaceChildren(el("p.faint", {}, `Planning both: ${far} …`)))).filter(Boolean)); }
    catch (error) { if (error.name !== "AbortError") result.replaceChildren(trouble(error, false)); }
    busy = false; go.disabled = false;
  }

  return {
    every: 3600,
    load: async () => known || ({ ...(await context.ask("/v1/regions")), ...(await context.ask("/v1/settings")) }),
    draw(found) {
      if (known) return;
      known = found;
      morph(body, [
        el("p.faint", {}, "The plan that would follow, worked out on a copy of the world. Nothing is changed and nothing is sent."),
        el("section.card", { "aria-label": "Suppose" }, form, list,
          el("p.check", {}, afresh, el("label", { for: "afresh" }, "Place anew what runs, too: prices then bear on everything, and not only on what waits")), el("p", {}, go)),
        result]);
      drawFields(); drawList();
    },
  };
}

function valued(text) {
  if (text === "true" || text === "false") return text === "true";
  if (text === "null" || text === "none") return null;
  return text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}

function compared(found) {
  const now = found.as_it_is, then = found.supposed;
  const more = (name, how) => { const change = then[name] - now[name]; return Math.abs(change) < 1e-9 ? "the same" : `${change > 0 ? "+" : "−"}${how(Math.abs(change))}`; };
  const row = (title, name, how) => ({ title, now: how(now[name]), then: how(then[name]), more: more(name, how) });
  const of = new Map(now.regions.map((one) => [one.region, one]));
  const reasons = new Map(now.reasons.map((one) => [one.reason, one.tasks]));
  return [
    found.complete ? null : el("p.note", {}, "The time was over before all was planned: the figures are of what was."),
    card("The plan there is, and the one there would be", table([
      ["", (one) => one.title, { name: "Figure" }], ["As it is", (one) => one.now, { right: true }], ["Supposed", (one) => one.then, { right: true }], ["Difference", (one) => one.more, { right: true }],
    ], [row("Copies placed", "copies", amount), row("GPUs in use", "gpus", amount), row("GPUs there are", "capacity_gpus", amount), row("USD an hour", "usd_per_hour", usd),
      row("Tasks that wait", "waiting", amount), row("GPUs that they ask for", "waiting_gpus", amount), row("Copies stopped without another place", "stopped", amount), row("Gap of the first plan", "gap", percent)], { caption: "Comparison", narrow: true })),
    card("By region", table([
      ["Region", (one) => one.region], ["GPUs as it is", (one) => amount(of.get(one.region)?.gpus ?? 0), { right: true }], ["Supposed", (one) => amount(one.gpus), { right: true }],
      ["Of", (one) => amount(one.capacity_gpus), { right: true }], ["USD/h as it is", (one) => usd(of.get(one.region)?.usd_per_hour ?? 0), { right: true }], ["Supposed", (one) => usd(one.usd_per_hour), { right: true }],
    ], then.regions, { caption: "By region" })),
    tasks("Would start", found.starts, (one) => one.to), tasks("Would wait", found.waits, (one) => one.reason || `leaves ${one.from}`),
    tasks("Would be elsewhere", found.elsewhere, (one) => `${one.from} → ${one.to}`),
    then.reasons.length ? card("Why tasks would wait", table([
      ["Reason", (one) => one.reason, { wide: true }], ["As it is", (one) => amount(reasons.get(one.reason) ?? 0), { right: true }], ["Supposed", (one) => amount(one.tasks), { right: true }],
    ], then.reasons, { caption: "Why tasks would wait" })) : null,
  ];
}

function tasks(title, found, where) {
  if (!found.copies) return null;
  return card(`${title}: ${amount(found.copies)}`, table([["Task", (one) => taskLink(one.task_id)], ["", (one) => where(one), { wide: true, name: "Where, or why not" }]], found.tasks, { caption: title }),
    found.copies > found.tasks.length ? el("p.faint", {}, `The first ${found.tasks.length}.`) : null);
}
