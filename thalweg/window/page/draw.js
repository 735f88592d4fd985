// Elements, and the few shapes that pages share. Text is set as text, never as markup.

import { key } from "./ask.js";
import { ago, amount, count as counted } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  return filled(element, attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) listen(element, key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

// Listeners are kept by the element, so that `morph` can hand them on.
function listen(element, type, act) {
  element.does ??= {};
  element.does[type] = act;
  element.addEventListener(type, (event) => element.does[type]?.(event));
}

// Show new content in the elements that are there: focus, scroll places, open details and marked text stay.
export function morph(parent, children) {
  const fresh = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  fresh.forEach((child, at) => {
    const now = parent.childNodes[at];
    const next = typeof child === "string" ? document.createTextNode(child) : child;
    if (!now) parent.append(next);
    else if (now !== next) same(now, next) ? become(now, next) : now.replaceWith(next);
  });
  while (parent.childNodes.length > fresh.length) parent.lastChild.remove();
}

function same(now, next) {
  if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) return false;
  if (now.nodeType !== 1) return true;
  return now.dataset.key === next.dataset.key && Object.keys(now.does || {}).join() === Object.keys(next.does || {}).join();
}

function become(now, next) {
  if (now.nodeType !== 1) { if (now.data !== next.data) now.data = next.data; return; }
  for (const name of now.getAttributeNames()) if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
  for (const name of next.getAttributeNames()) if (now.getAttribute(name) !== next.getAttribute(name)) now.setAttribute(name, next.getAttribute(name));
  if (next.does) now.does = next.does;
  morph(now, [...next.childNodes]);
}

export function state(name, count) {
  return el(`span.state`, { "data-state": name || "unknown" }, el("i", { "aria-hidden": "true" }),
    count === undefined ? name || "unknown" : `${counted(count)} ${name}`);
}

// A moment that grows older by itself.
export function moment(at) {
  return at ? el("time", { datetime: at, title: at.replace("T", " ").replace(/\.\d+/, "").replace("Z", " UTC") }, ago(at)) : "";
}

export function aged(root) { for (const time of root.querySelectorAll("time")) time.textContent = ago(time.dateTime); }

export function bar(share, words, kind = "") {
  const width = Math.max(0, Math.min(1, share || 0)) * 100;
  return el(`span.bar${kind ? "." + kind : ""}`, { title: words },
    svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "all", width: 100, height: 8, rx: 1 }), svg("rect", { class: "part", width, height: 8, rx: 1 })),
    el("span", {}, words));
}

export function sparkline(values, label) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return el("span.spark.faint", {}, "");
  const most = Math.max(...known), least = Math.min(...known), span = most - least || 1;
  const points = values.map((value, at) => [(at / (values.length - 1)) * 120, 27 - ((value - least) / span) * 24]);
  const line = points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  return svg("svg", { class: "spark", viewBox: "0 0 120 30", preserveAspectRatio: "none", role: "img",
    "aria-label": `${label}: between ${amount(least)} and ${amount(most)}` },
    svg("path", { class: "area", d: `${line}L120 30L0 30Z` }), svg("path", { class: "line", d: line }));
}

// columns: [title, value of a row (text or element), {right, wide, title, name of one without a title}]
export function table(columns, rows, { caption, empty = "Nothing here.", key, narrow } = {}) {
  if (!rows.length) return el("p.empty", {}, empty);
  return el("div.scroll", { tabindex: "0", role: "group", "aria-label": caption },
    el(narrow ? "table.narrow" : "table", {}, el("caption.unseen", {}, caption),
      el("thead", {}, el("tr", {}, columns.map(([title, , how = {}]) =>
        el(how.right ? "th.right" : "th", { scope: "col", title: how.title }, title || el("span.unseen", {}, how.name || "State"))))),
      el("tbody", {}, rows.map((row) => el("tr", { "data-key": key?.(row) }, columns.map(([, value, how = {}]) =>
        el(how.right ? "td.right" : how.wide ? "td.wide" : "td", {}, value(row))))))));
}

export function card(title, ...children) {
  return el("section.card", { "aria-label": title }, el("h2", {}, title), children);
}

export function figure(title, value, unit, below, spark) {
  return el("div.figure", {}, el("div.title", {}, title),
    el("div.value", {}, value, unit ? el("span.unit", {}, ` ${unit}`) : ""),
    below ? el("div.below", {}, below) : "", spark || "");
}

export function taskLink(id) { return el("a.id", { href: `#/tasks/${encodeURIComponent(id)}`, title: id }, id); }

export function trouble(error, isTriedAgain = true) {
  const hint = error.status === 401 ? (key.get() ? "Enter another key with the button above, or forget this one." : "Enter a key with the button above.")
    : !isTriedAgain || [403, 404, 422].includes(error.status) ? "" : "It is tried again by itself.";
  return el("div.trouble", { role: "alert" }, el("strong", {}, error.status === 403 ? "Not for this key" : "That did not work"),
    el("p", {}, error.message), hint ? el("p.faint", {}, hint) : "");
}
