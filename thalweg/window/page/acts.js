// Acts: what one will do is worked out and shown, with figures, before it is asked for; then what became of it is said.

import { made } from "./ask.js";
import { el } from "./draw.js";

const dialog = document.getElementById("dialog");
const said = document.getElementById("said");

// Ends the dialog, and is not what Enter in one of its fields presses.
export function closing(words, value) { return el("button", { type: "button", onclick: () => dialog.close(value) }, words); }

// An operation on one task.
export function actButton(context, path, op, id) {
  const name = op[0].toUpperCase() + op.slice(1);
  return el("button.grave", { type: "button", "data-key": op, onclick: () => foresee(context, `${name} ${id}?`, `Yes, ${op} it`, `${path}/${op}`) }, name);
}

// An order: {order, title, yes, label, fields, made}; fields are asked first, `made` turns what was put in into the order.
export function orderButton(context, name, what) {
  return el("button.grave", { type: "button", "data-key": name, "aria-label": what.label || null, onclick: () => fill(context, name, what) }, name);
}

async function fill(context, name, what) {
  const asked = (order) => foresee(context, what.title, what.yes || `Yes, ${name.toLowerCase()}`, "/v1/orders", order);
  if (!what.fields?.length) return asked(what.order);
  let fields;
  try { fields = await Promise.all(what.fields.map(field)); } catch (error) { return tell(error.message); }
  dialog.replaceChildren(el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, what.title), fields.map((one) => one.element),
    el("p.buttons", {}, closing("Close", "no"), el("button.main", { value: "yes" }, "What will it do?"))));
  if (!(await answer())) return undefined;
  const order = { ...what.order };
  for (const one of fields) { const value = one.read(); if (value !== null) order[one.name] = value; }
  return asked(what.made ? what.made(order) : order);
}

let count = 0;
export async function field({ name, title, type = "text", options, value = "", number, ...how }) {
  const id = `field-${++count}`;
  const input = options
    ? el("select", { id, name }, (await options()).map((one) => el("option", { value: one }, String(one))))
    : el("input", { id, name, type, value: type === "checkbox" ? null : value, autocomplete: "off", ...how });
  const label = el("label", { for: id }, title);
  return {
    name, input,
    element: type === "checkbox" ? el("p.field.check", {}, input, label) : el("p.field", {}, label, input),
    read: () => (type === "checkbox" ? input.checked || null : input.value === "" ? null : type === "number" || number ? Number(input.value) : input.value),
  };
}

// Say what it will do, let a person say yes, do it, say what became of it.
async function foresee(context, title, yes, path, body) {
  // What was asked for is heard of, whatever page is looked at meanwhile.
  const send = (dry) => context.ask(`${path}${dry ? "?dry_run=1" : ""}`, { method: "POST", body, ...(dry ? {} : { signal: null }) });
  const words = el("div.words", { role: "status", tabindex: "0" }, el("p.faint", {}, "Working out what it will do …"));
  const go = el("button.grave", { value: "yes", disabled: true }, yes);
  dialog.replaceChildren(el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, title), words,
    el("p.buttons", {}, el("button", { value: "no", autofocus: true }, "No, go back"), go)));
  const answered = answer();
  let isOpen = true;
  answered.then(() => { isOpen = false; });
  made(() => send(true), (far) => words.replaceChildren(el("p.faint", {}, `Working out what it will do: ${far} …`)), () => isOpen).then((ahead) => {
    if (!isOpen) return;
    words.replaceChildren(el("ul", {}, ahead.words.map((line) => el("li", {}, line.trim()))));
    go.disabled = Boolean(ahead.refused);
  }, (error) => {
    if (error.name === "AbortError") return;
    words.replaceChildren(el("p", {}, `What will follow cannot be said: ${error.message}`));
    go.disabled = error.status !== 503;
  });
  if (!(await answered)) return;
  tell("Asked …");
  try {
    const found = await send(false);
    tell(found.answer ? `${found.answer}${found.reason ? `: ${found.reason}` : ""}` : "The broker has it; the place job was not heard yet.");
  } catch (error) { tell(error.message); }
  context.wake();
}

function answer() {
  const before = document.activeElement;
  return new Promise((done) => {
    dialog.returnValue = "no";
    dialog.onclose = () => { (before?.isConnected ? before : document.getElementById("main")).focus({ preventScroll: true }); done(dialog.returnValue === "yes"); };
    if (!dialog.open) dialog.showModal();
  });
}

let clearing = 0;
function tell(words) {
  said.textContent = words;
  clearTimeout(clearing);
  clearing = setTimeout(() => { said.textContent = ""; }, 15000);
}
