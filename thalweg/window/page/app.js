// The frame: which page is shown, what is live, and the keys that move between them.

import { closing } from "./acts.js";
import { ask, Events, key, seen } from "./ask.js";
import { aged, el, morph, trouble } from "./draw.js";
import { clockIs } from "./words.js";
import { PAGES } from "./pages.js";
import { tasksPage } from "./tasks.js";
import { taskPage } from "./task.js";

const main = document.getElementById("main");
const dialog = document.getElementById("dialog");
const NAMES = ["overview", "tasks", "regions", "plans", "tenants", "sync", "quality", "money", "audit", "what-if"];
const NOBODY = { may_act: false, acts: {}, orders: {} };
const shown = { me: NOBODY };
const named = (name) => name[0].toUpperCase() + name.slice(1).replace("-", " ");
let page = null;

for (const [at, name] of NAMES.entries())
  document.getElementById("nav").append(el("a", { href: `#/${name}`, "data-page": name, title: `Key: g ${(at + 1) % 10}` }, named(name)));

function route() {
  const [path, query = ""] = (location.hash.replace(/^#\/?/, "") || "overview").split("?");
  const [name, ...rest] = path.split("/");
  return { name, id: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

function decoded(text) { try { return decodeURIComponent(text); } catch { return text; } } // a % that was typed

const noPage = (context, body) => ({
  every: 3600, load: async () => null,
  draw: () => morph(body, [el("p", {}, `Nothing here is called ${context.name}. `, el("a", { href: "#/overview" }, "To the overview"))]),
});

async function show() {
  const to = route(), isKnown = NAMES.includes(to.name);
  page?.stop?.abort();
  const stop = new AbortController();
  const draw = !isKnown ? noPage : to.name !== "tasks" ? PAGES[to.name] : to.id ? taskPage : tasksPage;
  for (const link of document.querySelectorAll("#nav a"))
    link.dataset.page === to.name ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  const nav = document.getElementById("nav"), mark = nav.querySelector("[aria-current]");
  if (mark) nav.scrollLeft = mark.offsetLeft - nav.offsetLeft - (nav.clientWidth - mark.offsetWidth) / 2;
  const id = to.name === "tasks" ? to.id : "", title = id || (isKnown ? named(to.name) : "No such page");
  document.title = `${title} · Thalweg`;
  page = { stop, to };
  const mine = page;
  const context = { ...to, signal: stop.signal, get me() { return shown.me; }, wake: () => mine.wake?.(), ask: (path, how) => ask(path, { signal: stop.signal, ...how }) };
  main.replaceChildren(el("h1", { class: id ? "id" : "" }, title), el("div.body", {}, el("p.faint", {}, "Loading …")));
  const body = main.lastChild;
  Object.assign(mine, draw(context, body));
  await refresh(mine, body);
}

// A page gives {load, draw, hear, every}: load asks, draw shows, hear is told of changes, every says how often in seconds.
async function refresh(mine, body) {
  for (;;) {
    try {
      const found = await mine.load();
      if (mine !== page) return;
      clockIs(found?.now);
      body.querySelector(":scope > .trouble")?.remove();
      mine.draw(found);
      mine.failed = mine.absent = false;
    } catch (error) {
      if (error.name === "AbortError" || mine !== page) return;
      if (!(error.status >= 0)) console.error(error);
      if (!mine.failed) body.querySelector(":scope > .trouble")?.remove();
      if (!body.querySelector(":scope > .trouble")) body.prepend(trouble(error));
      body.querySelector(":scope > .faint")?.remove();
      mine.failed = true;
      mine.absent = error.status === 404; // shown when something is heard of it
      if (error.status === 403) return;
    }
    await new Promise((done) => { mine.wake = done; setTimeout(done, 1000 * (mine.absent ? 30 : mine.failed ? 3 : mine.every || 5)); });
    if (mine !== page) return;
    if (document.hidden) await seen();
    if (mine !== page) return;
  }
}

const live = document.getElementById("live");
const events = new Events(
  (changes) => page?.hear?.(changes),
  (how) => {
    live.dataset.how = how;
    live.querySelector(".words").textContent = { live: "live", away: "reconnecting", key: "key needed" }[how];
    if (how === "live") page?.wake?.(); // what happened meanwhile is asked for at once
  },
);

// The key is kept for this tab alone.
function askKey() {
  const input = el("input", { type: "password", id: "secret", autocomplete: "off", value: key.get() });
  const form = el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, "Key"),
    el("p", {}, "Reading may need one, and acting does (window.keys in the settings). It is kept for this tab alone."),
    el("label", { for: "secret" }, "Secret"), input,
    el("p.buttons", {}, closing("Close", "cancel"),
      closing("Forget it", "forget"), el("button.main", { value: "use" }, "Use it")));
  dialog.replaceChildren(form);
  dialog.onclose = async () => {
    if (dialog.returnValue === "use") key.set(input.value.trim());
    else if (dialog.returnValue === "forget") key.set("");
    else return;
    await whoAmI();
    events.again();
    show();
  };
  dialog.returnValue = "cancel";
  dialog.showModal();
}

async function whoAmI() {
  const button = document.getElementById("key");
  try {
    shown.me = await ask("/v1/me");
    button.textContent = shown.me.key ? `Key: ${shown.me.key}` : "Key";
  } catch (error) {
    shown.me = NOBODY;
    button.textContent = error.status !== 401 ? "Key" : key.get() ? "Key unknown" : "Key needed";
  }
  page?.wake?.();
}

document.getElementById("key").addEventListener("click", askKey);
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); }); // the address says which page
document.getElementById("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = document.getElementById("jump-id").value.trim();
  if (id) location.hash = /[*?]/.test(id) ? `#/tasks?name=${encodeURIComponent(id)}` : `#/tasks/${encodeURIComponent(id)}`;
});
let went = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || dialog.open) return;
  if (event.key === "/") { event.preventDefault(); document.getElementById("jump-id").focus(); }
  else if (event.key === "g") went = Date.now();
  else if (/^[0-9]$/.test(event.key) && Date.now() - went < 1500) location.hash = `#/${NAMES[(Number(event.key) + 9) % 10]}`;
});
window.addEventListener("hashchange", () => { dialog.close("no"); show(); main.focus({ preventScroll: true }); });
setInterval(() => aged(document), 1000);
show();
whoAmI();
