// All tasks: found, sorted and grouped by the door; of a million rows those in sight are asked for and drawn.

import { bar, el, moment, state, table, taskLink, trouble } from "./draw.js";
import { amount, clockIs, count as counted, usd } from "./words.js";

const ROW = 36, BLOCK = 100;
const TALLEST = 8000000; // browsers end an element's height between 17 and 33 million pixels
const STATES = ["waiting", "assigned", "running", "succeeded", "failed", "cancelled"];
const COLUMNS = [ // title, sort, drawn, class
  ["Task", "task", (task) => taskLink(task.task_id), "id"],
  ["State", "state", (task) => state(task.held && task.state === "waiting" ? "held" : task.state), "st"],
  ["Tenant", null, (task) => task.tenant || "", "te"],
  ["GPUs", "gpus", (task) => amount(task.gpus), "gp right"],
  ["USD/h", "cost", (task) => (task.cost_usd_per_hour ? usd(task.cost_usd_per_hour) : ""), "co right"],
  ["Priority", "priority", (task) => amount(task.priority), "pr right"],
  ["Delay USD/h", "value", (task) => usd(task.value_usd_per_hour), "va right"],
  ["Where, or why not", null, (task) => [task.regions.join(", "), task.reason && (task.state === "waiting" || task.state === "failed") ? task.reason : ""].filter(Boolean).join(" · "), "wh"],
  ["Submitted", "submitted", (task) => moment(task.submitted_at), "su right"],
  ["Changed", "changed", (task) => moment(task.changed_at), "ch right"],
];

export function tasksPage(context, body) {
  const wanted = new URLSearchParams([...context.query].filter(([, value]) => value.trim()));
  const group = () => wanted.get("group");
  let blocks = new Map(), matching = null, active = 0, generation = 0, pending = new Set(), drawn = new Map();
  let loaded = true, sizer, layer, view, count, chips, result, soon = 0, newest = 0;

  function go(changes) {
    for (const [name, value] of Object.entries(changes)) value ? wanted.set(name, value) : wanted.delete(name);
    history.replaceState(null, "", `#/tasks${wanted.size ? `?${wanted}` : ""}`);
    anew();
  }

  function filters() {
    const word = (name, title, how = {}) => el("label", {}, el("span", {}, title), el("input", { name, type: "search", value: wanted.get(name) || "",
      autocomplete: "off", spellcheck: "false", ...how, oninput: (event) => { clearTimeout(soon); const text = event.target.value.trim();
        soon = setTimeout(() => go({ [name]: name === "name" && text && !/[*?]/.test(text) ? `*${text}*` : text }), 200); } }));
    const groups = el("select", { name: "group", onchange: (event) => go({ group: event.target.value }) },
      [["", "no, list them"], ["tenant", "tenant"], ["state", "state"], ["region", "region"], ["array", "array"], ["kind", "kind"]].map(([value, title]) =>
        el("option", { value, selected: (group() || "") === value }, title)));
    chips = el("div.chips", { role: "group", "aria-label": "State" });
    return [el("form.filters", { onsubmit: (event) => event.preventDefault() }, word("name", "Name or id"), word("tenant", "Tenant"), word("region", "Region"),
      word("reason", "Words in the reason"), word("since", "Changed since", { placeholder: "5m, 2h, 7d" }),
      el("label", {}, el("span", {}, "Group by"), groups),
      el("button.quiet", { type: "button", onclick: () => { for (const name of [...wanted.keys()]) wanted.delete(name); body.replaceChildren(...filters(), result); go({}); body.querySelector("input").focus(); } }, "Clear")), chips];
  }

  function drawChips(byState) {
    const chosen = new Set((wanted.get("state") || "").split(",").filter(Boolean));
    chips.replaceChildren(...STATES.map((name) => {
      const chip = el("button.chip", { type: "button", "aria-pressed": String(chosen.has(name)), onclick: () => {
        chosen.has(name) ? chosen.delete(name) : chosen.add(name);
        go({ state: [...chosen].join(",") });
      } }, chosen.size && !chosen.has(name) ? state(name) : state(name, byState[name] || 0));
      return chip;
    }), count);
  }

  const query = () => { const asked = new URLSearchParams(wanted); asked.delete("group"); return asked; };

  async function block(number, mine = generation) {
    if (pending.has(number)) return;
    pending.add(number);
    const asked = query();
    asked.set("limit", BLOCK); asked.set("offset", number * BLOCK);
    try {
      const found = await context.ask(`/v1/tasks?${asked}`);
      if (mine !== generation) return;
      clockIs(found.now);
      body.querySelector(":scope > .trouble")?.remove();
      blocks.set(number, found.tasks);
      loaded = found.loaded;
      if (found.matching !== matching) { matching = found.matching; fit(); }
      drawChips(found.by_state);
      count.textContent = found.loaded ? `${counted(matching)} task${matching === 1 ? "" : "s"}` : "the tables are being read …";
      paint();
    } finally { if (mine === generation) pending.delete(number); }
  }

  function fit() {
    sizer.style.height = `${Math.min(matching * ROW, TALLEST)}px`;
    view.setAttribute("aria-rowcount", matching + 1);
    active = Math.min(active, Math.max(matching - 1, 0));
  }

  const inSight = () => Math.max(1, Math.floor(view.clientHeight / ROW));
  function firstRow() {
    const tall = Math.min(matching * ROW, TALLEST), path = tall - view.clientHeight;
    if (path <= 0) return 0;
    return Math.min(Math.round((view.scrollTop / path) * (matching - inSight())), Math.max(matching - 1, 0));
  }
  function scrollTo(row) {
    const tall = Math.min(matching * ROW, TALLEST), path = tall - view.clientHeight;
    view.scrollTop = matching > inSight() ? (row / (matching - inSight())) * path : 0;
  }

  function paint() {
    if (matching === null) return;
    const first = firstRow(), until = Math.min(first + inSight() + 1, matching);
    drawn = new Map();
    const rows = [];
    for (let row = first; row < until; row++) {
      const at = Math.floor(row / BLOCK), task = blocks.get(at)?.[row % BLOCK];
      if (!blocks.has(at)) block(at).catch(failed);
      rows.push(line(task, row));
    }
    if (!matching) rows.push(el("div.nothing", { role: "row" }, el("p.empty", { role: "gridcell" }, !loaded ? "The tables are being read; tasks come in a moment." : wanted.size ? "No task is like this. Take a filter away." : "No task yet. Submit one: thalweg submit, or POST /v1/tasks")));
    layer.replaceChildren(...rows);
    matching ? view.setAttribute("aria-activedescendant", `row-${active}`) : view.removeAttribute("aria-activedescendant");
  }

  function line(task, row) {
    const element = el("div.row", { role: "row", id: `row-${row}`, "aria-rowindex": row + 2, "aria-selected": String(row === active),
      onclick: () => { active = row; paint(); } },
      COLUMNS.map(([, , draw, kind]) => el("div", { role: "gridcell", class: kind }, task ? draw(task) : "")));
    if (!task) element.classList.add("waited");
    else { drawn.set(task.task_id, element); for (const link of element.querySelectorAll("a")) link.tabIndex = -1; }
    return element;
  }

  function failed(error) {
    if (error.name === "AbortError") return;
    body.querySelector(":scope > .trouble")?.remove();
    result.before(trouble(error));
  }

  function keys(event) {
    const page = inSight(), by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    if (event.key === "Enter") { const task = blocks.get(Math.floor(active / BLOCK))?.[active % BLOCK]; if (task) location.hash = `#/tasks/${encodeURIComponent(task.task_id)}`; return; }
    if (event.key === "Home") active = 0; else if (event.key === "End") active = matching - 1; else if (by) active += by; else return;
    event.preventDefault();
    active = Math.max(0, Math.min(active, matching - 1));
    const first = firstRow();
    if (active < first) scrollTo(active); else if (active >= first + page) scrollTo(active - page + 1);
    paint();
  }

  function listed() {
    count = el("span.faint", { role: "status" }, "");
    layer = el("div.layer", { role: "rowgroup" });
    sizer = el("div.sizer", {}, layer);
    const [sort, order] = [wanted.get("sort") || "changed", wanted.get("order")];
    const head = el("div.row.head", { role: "row" }, COLUMNS.map(([title, by, , kind]) => {
      if (!by) return el("div", { role: "columnheader", class: kind }, title);
      const usual = by === "task" || by === "state" ? "asc" : "desc", mine = sort === by, way = mine ? order || usual : usual;
      return el("div", { role: "columnheader", class: kind, "aria-sort": mine ? (way === "asc" ? "ascending" : "descending") : "none" },
        el("button.sort", { type: "button", onclick: () => go({ sort: by, order: mine ? (way === "asc" ? "desc" : "asc") : "" }) },
          title, el("span", { "aria-hidden": "true" }, mine ? (way === "asc" ? " ↑" : " ↓") : "")));
    }));
    view = el("div.view", { tabindex: "0", role: "grid", "aria-label": "Tasks; arrow keys move, Enter opens", onkeydown: keys }, head, sizer);
    view.addEventListener("scroll", () => requestAnimationFrame(paint), { passive: true });
    new ResizeObserver(() => requestAnimationFrame(paint)).observe(view);
    return view;
  }

  function anew() {
    generation++; blocks = new Map(); pending = new Set(); active = 0;
    const view = listed();
    if (group()) { result.replaceChildren(el("p.faint", {}, "Counting …")); drawChips({}); grouped().catch(failed); }
    else { result.replaceChildren(view); block(0).catch(failed); }
  }

  async function grouped() {
    const mine = generation, asked = query();
    asked.set("group", group());
    const [found, whole] = await Promise.all([context.ask(`/v1/tasks?${asked}`), context.ask(`/v1/tasks?${(asked.delete("group"), asked)}&limit=0`)]);
    if (mine !== generation) return;
    body.querySelector(":scope > .trouble")?.remove();
    const by = found.by, most = Math.max(...found.groups.map((row) => row.tasks), 1);
    drawChips(whole.by_state);
    count.textContent = `${counted(whole.matching)} tasks in ${counted(found.groups.length)} groups`;
    const inside = (row) => { const next = new URLSearchParams(wanted); next.delete("group"); next.set(by === "array" ? "array" : by, row[by]); return `#/tasks?${next}`; };
    result.replaceChildren(el("section.card", {}, table([
      [by[0].toUpperCase() + by.slice(1), (row) => (row[by] === null || by === "kind" ? row[by] || "(none)" : el("a", { href: inside(row) }, row[by]))],
      ["Tasks", (row) => bar(row.tasks / most, counted(row.tasks))],
      ...STATES.map((name) => [name[0].toUpperCase() + name.slice(1), (row) => (row.by_state[name] ? counted(row.by_state[name]) : "–"), { right: true }]),
      ["GPUs placed", (row) => amount(row.placed_gpus), { right: true }], ["USD/h", (row) => usd(row.usd_per_hour), { right: true }],
    ], found.groups.slice(0, 500), { caption: `Tasks by ${by}`, empty: "No task is like this." })));
  }

  // What is looked at is asked for anew, at most once in 700 ms; rows in sight change at once.
  function freshen() {
    newest = Date.now();
    if (group()) { grouped().catch(failed); return; }
    const first = Math.floor(firstRow() / BLOCK);
    for (const number of [...blocks.keys()]) if (number < first || number > first + 1) blocks.delete(number);
    pending.clear();
    block(first).catch(failed);
  }

  body.replaceChildren(...filters(), (result = el("div.result", {})));
  result.append(listed());
  let waiting = false;
  return {
    every: 15,
    load: async () => { if (matching === null || group()) anew(); else freshen(); },
    draw() {},
    hear(changes) {
      for (const { task } of changes) {
        const element = task && drawn.get(task.task_id);
        if (!element) continue;
        const row = Number(element.id.slice(4));
        const held = blocks.get(Math.floor(row / BLOCK));
        if (held) held[row % BLOCK] = task;
        const fresh = line(task, row);
        fresh.classList.add("changed");
        element.replaceWith(fresh);
      }
      if (waiting) return;
      waiting = true;
      setTimeout(() => { waiting = false; freshen(); }, Math.max(0, 700 - (Date.now() - newest)));
    },
  };
}
