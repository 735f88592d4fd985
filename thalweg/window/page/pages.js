// The pages that are one document each.

import { orderButton } from "./acts.js";
import { bar, card, el, figure, moment, morph, sparkline, state, svg, table, taskLink } from "./draw.js";
import { whatIfPage } from "./whatif.js";
import { amount, count, duration, exactly, milliseconds, percent, usd } from "./words.js";

const NO_REGION = "No region has been heard of. Start one here: thalweg agent --region lab --host";

function simple(path, draw, every = 5) {
  return (context, body) => ({
    every,
    load: () => context.ask(typeof path === "function" ? path(context) : path),
    draw: (found) => morph(body, draw(found, context)),
  });
}

// Overview

function overview(context, body) {
  const recent = el("ol.changes", {});
  let due = 0;
  return {
    every: 4,
    load: () => context.ask("/v1/overview"),
    draw(found) {
      morph(body, overviewParts(found, recent));
      if (!recent.children.length) recent.append(...(found.recent.length ? found.recent.map(change) : [el("li.none.empty", {}, "Nothing has changed since the window was opened.")]));
    },
    hear(changes) {
      recent.querySelector(".none")?.remove();
      const rows = changes.slice(-30).map(change).reverse();
      recent.prepend(...rows);
      while (recent.children.length > 30) recent.lastChild.remove();
      if (Date.now() - due > 2000) { due = Date.now(); setTimeout(context.wake, 300); }
    },
  };
}

function overviewParts(found, recent) {
  const samples = found.samples, of = (name) => samples.map((sample) => sample.by_state[name] || 0);
  const seconds = samples.length > 1 ? (samples.at(-1).at_ms - samples.at(-2).at_ms) / 1000 : 0;
  const rate = seconds ? samples.at(-1).changes / seconds : null;
  const counts = found.by_state, ended = (counts.succeeded || 0) + (counts.failed || 0) + (counts.cancelled || 0);
  return [
    found.loaded ? null : el("p.note", {}, "The tables are being read; figures come in a moment."),
    found.unwell && unwell(found.unwell), // a key of one tenant is not told
    el("div.figures", {}, !found.loaded ? ["Running", "Waiting", "GPUs in use", "Money", "Changes"].map((title) => figure(title, "–")) : [
      figure("Running", count(counts.running || 0), "tasks", counts.assigned ? `${amount(counts.assigned)} more assigned` : "none on their way",
        sparkline(of("running"), "running")),
      figure("Waiting", count(counts.waiting || 0), "tasks", found.waiting_gpus ? `for ${amount(found.waiting_gpus)} GPUs` : counts.waiting ? "for no GPU" : "nothing is asked for",
        sparkline(of("waiting"), "waiting")),
      figure("GPUs in use", amount(found.placed_gpus), found.gpus ? `of ${amount(found.gpus)}` : "",
        found.gpus ? bar(found.placed_gpus / found.gpus, percent(found.placed_gpus / found.gpus)) : "no capacity is known",
        sparkline(samples.map((sample) => sample.placed_gpus), "GPUs")),
      figure("Money", usd(found.usd_per_hour), "USD/h", `${usd(found.usd_per_hour * 24)} USD a day at this rate`,
        sparkline(samples.map((sample) => sample.usd_per_hour), "USD an hour")),
      figure("Changes", rate === null ? "–" : amount(rate), rate === null ? "" : "/s", `${count(ended)} tasks have ended`,
        sparkline(samples.slice(1).map((sample) => sample.changes), "changes"))]),
    el("div.columns", {},
      el("div", {}, mapCard(found.regions, found.links, found.flows), regionCard(found.regions),
        card("Why tasks wait", found.waiting_reasons.length
          ? el("ul.reasons", {}, found.waiting_reasons.map((row) => el("li", {},
            bar(row.tasks / (counts.waiting || 1), amount(row.tasks)),
            el("a", { href: `#/tasks?state=waiting&reason=${encodeURIComponent(row.reason)}` }, row.reason))))
          : el("p.empty", {}, found.loaded ? "No task waits." : "It is not known yet."))),
      card("What changed", recent)),
  ];
}

function unwell(found) {
  if (!found.length) return el("p.well", {}, el("span.dot"), "All is well.");
  return el("ul.unwell", { "aria-label": "What is unwell" }, found.map((one) =>
    el("li", { class: one.grave ? "grave" : "" }, el("a", { href: `#/${one.page}` }, one.what), el("span", {}, one.words))));
}

function change(one) {
  return el("li", {}, moment(one.at), state(one.change), one.task_id ? taskLink(one.task_id) : el("span", {}, one.reason || ""),
    el("span.faint", {}, one.task_id ? one.region || one.reason || "" : "order"));
}

function regionCard(regions) {
  return card("Regions", table([
    ["Region", (row) => el("a", { href: `#/regions?region=${encodeURIComponent(row.region)}` }, row.region)],
    ["", (row) => state(row.state)],
    ["In use", (row) => bar(row.utilisation, `${amount(row.used_gpus)} / ${amount(row.gpus)}`, row.utilisation > 0.95 ? "full" : "")],
    ["Running", (row) => amount(row.running), { right: true }],
    ["Coming", (row) => amount(row.assigned), { right: true, title: "assigned, not running yet" }],
  ], regions, { caption: "Regions", empty: NO_REGION }));
}

// Regions and nodes

function regions(context, body) {
  const region = context.query.get("region");
  return {
    every: 5,
    load: async () => ({ ...(await context.ask("/v1/regions")), ...(await standing(context)),
      ...(await context.ask(`/v1/nodes${region ? `?region=${encodeURIComponent(region)}` : ""}`)) }),
    draw: (found) => morph(body, regionParts(found, region, context)),
  };
}

// The orders that stand; a key of one tenant is told none.
async function standing(context) {
  try { return { orders: (await context.ask("/v1/orders")).orders }; } catch (error) { if (error.status === 403) return { orders: [] }; throw error; }
}

function ordersCard(orders, kinds) {
  const rows = orders.filter((one) => kinds.includes(one.after.type));
  return rows.length ? card("Orders that stand", table([
    ["What", (row) => row.what, { wide: true }], ["Who", (row) => row.who || "unknown"], ["Given", (row) => moment(row.at), { right: true }],
  ], rows, { caption: "Orders that stand" })) : null;
}

function drainButton(context, orders, region, node) {
  const subject = node ? `drain/${region}/${node}` : `drain/${region}`, where = node ? `${region}/${node}` : region;
  const order = { region, ...(node ? { node_id: node } : {}) };
  if (orders.some((one) => one.subject === subject))
    return orderButton(context, "Undrain", { order: { order: "undrain", ...order }, title: `Let ${where} take tasks again?`, label: `Undrain ${where}` });
  return orderButton(context, "Drain", { order: { order: "drain", ...order }, title: `Drain ${where}?`, label: `Drain ${where}`, fields: [
    { name: "hours", title: "Empty within so many hours (blank: whenever another place is found)", type: "number", min: "0", step: "any" }],
    made: ({ hours, ...rest }) => (hours ? { ...rest, by: Date.now() + Math.round(hours * 3600000) } : rest) });
}

function priceButton(context, row) {
  const models = [...new Set(row.prices.map((one) => one.gpu_model))].filter(Boolean);
  return models.length ? orderButton(context, "Price", { order: { order: "price", region: row.region }, title: `Price of a GPU-hour in ${row.region}`, yes: "Yes, set it", label: `Price in ${row.region}`, fields: [
    { name: "gpu_model", title: "GPU model", options: () => models }, { name: "spot", title: "Spot", type: "checkbox" },
    { name: "usd_per_gpu_hour", title: "USD per GPU-hour, whatever the region says", type: "number", min: "0", step: "any" },
    { name: "reset", title: "Believe the region again", type: "checkbox" }],
    made: ({ reset, usd_per_gpu_hour, ...rest }) => (reset ? { ...rest, reset: true } : { ...rest, usd_per_gpu_hour }) }) : null;
}

function regionParts(found, region, context) {
  const ours = new Map(found.orders.filter((one) => one.after.type === "price").map((one) => [one.subject, one.after.usd_per_gpu_hour]));
  const price = (row) => row.prices.map((one) => {
    const ordered = ours.get(`price/${row.region}/${one.gpu_model}/${one.spot ? "spot" : "on-demand"}`), said = one.usd_per_gpu_hour === null ? "no price" : usd(one.usd_per_gpu_hour);
    return el("span.price", {}, `${one.gpu_model}${one.spot ? " spot" : ""} `, el("b", {}, ordered === undefined ? said : usd(ordered)), ordered === undefined ? "" : ` ordered; it says ${said}`);
  });
  return [
    region ? null : mapCard(found.regions, found.links),
    card("Regions", table([
      ["Region", (row) => el("a", { href: row.region === region ? "#/regions" : `#/regions?region=${encodeURIComponent(row.region)}` }, row.region)],
      ["", (row) => state(row.drained && row.state === "heard" ? "drained" : row.state)],
      ["Nodes", (row) => amount(row.nodes), { right: true }],
      ["GPUs", (row) => amount(row.gpus), { right: true }],
      ["In use", (row) => bar(row.utilisation, row.utilisation === null ? "" : percent(row.utilisation), row.utilisation > 0.95 ? "full" : "")],
      ["Coming", (row) => amount(row.assigned), { right: true }],
      ["Running", (row) => amount(row.running), { right: true }],
      ["Heard", (row) => (row.last_heard_s === null ? "never" : `${duration(row.last_heard_s)} ago`), { right: true }],
      ["USD per GPU-hour", price, { wide: true }],
      ...(context.me.orders?.drain ? [["", (row) => el("span.acts", {}, drainButton(context, found.orders, row.region), priceButton(context, row)), { name: "Acts" }]] : []),
    ], found.regions.filter((row) => !region || row.region === region), { caption: "Regions", key: (row) => row.region,
      empty: region && found.regions.length ? [`No region is called ${region}. `, el("a", { href: "#/regions" }, "All regions")] : NO_REGION })),
    ordersCard(found.orders, ["drain", "price"]),
    card(region ? `Nodes of ${region}` : "Nodes", table([
      ["Node", (row) => row.node_id], region ? null : ["Region", (row) => row.region],
      ["", (row) => state(row.drained ? "drained" : row.state || "ready")],
      ["Model", (row) => `${row.gpu_model || "CPU"}${row.spot ? " spot" : ""}`],
      ["Placed", (row) => bar(row.gpus ? row.used_gpus / row.gpus : 0, `${amount(row.used_gpus)} / ${amount(row.gpus)}`)],
      ["GPU busy", (row) => percent(row.gpu_utilisation), { right: true }],
      ["CPU busy", (row) => percent(row.cpu_utilisation), { right: true }],
      ["Memory", (row) => (row.memory_gb ? `${row.memory_used_gb === null ? "" : `${amount(Math.round(row.memory_used_gb))} / `}${amount(row.memory_gb)} GB` : ""), { right: true }],
      ["Seen", (row) => moment(row.observed_at), { right: true }],
      region && context.me.orders?.drain ? ["", (row) => drainButton(context, found.orders, row.region, row.node_id), { name: "Act" }] : null,
    ].filter(Boolean), found.nodes.slice(0, 400), { caption: "Nodes", key: (row) => `${row.region}/${row.node_id}`, empty: "No node has been heard of." }),
    found.nodes.length > 400 ? el("p.faint", {}, `The first 400 of ${amount(found.nodes.length)}; choose a region for its own.`) : null),
  ];
}

function mapCard(regions, links, flows = []) {
  if (!links.length) return null;
  const moved = flows.slice(0, 5).map((one) => `${one.region} to ${one.to_region} (${amount(one.copies)})`).join(", ");
  return card("Map", worldMap(regions, links, flows),
    moved ? el("p", {}, `Copies that moved within ten minutes: ${moved}${flows.length > 5 ? ", …" : ""}.`) : null,
    el("p.faint", {}, "Near means quick: places follow from round trips. A disc is as large as its GPUs and as full as they are; a line is a link, thicker where it carries more; an arrow is copies that moved."));
}

// Places from round trips: pairs are pulled together or apart until distances are as the links say (stress majorisation).
function worldMap(regions, links, flows = []) {
  const names = regions.map((row) => row.region), at = new Map(names.map((name, place) => [name, place]));
  const far = Math.max(...links.map((link) => link.rtt_ms), 1);
  const wanted = names.map(() => new Array(names.length).fill(far));
  for (const link of links)
    if (at.has(link.region) && at.has(link.dst_region)) wanted[at.get(link.region)][at.get(link.dst_region)] = Math.sqrt(link.rtt_ms / far) * far;
  const where = names.map((_, place) => [Math.cos((place / names.length) * 2 * Math.PI) * far, Math.sin((place / names.length) * 2 * Math.PI) * far]);
  for (let round = 0; round < 120; round++)
    for (let one = 0; one < names.length; one++)
      for (let other = 0; other < names.length; other++) {
        if (one === other) continue;
        const [dx, dy] = [where[one][0] - where[other][0], where[one][1] - where[other][1]];
        const length = Math.hypot(dx, dy) || 1, pull = ((length - wanted[one][other]) / length) * 0.12 / names.length * 4;
        where[one][0] -= dx * pull; where[one][1] -= dy * pull;
      }
  const [xs, ys] = [where.map((place) => place[0]), where.map((place) => place[1])];
  const narrow = matchMedia("(max-width: 820px)").matches, [wide, high] = narrow ? [360, 420] : [900, 380], rim = narrow ? 48 : 70;
  const scale = (values, size) => (value) => rim + ((value - Math.min(...values)) / (Math.max(...values) - Math.min(...values) || 1)) * (size - 2 * rim);
  const [x, y] = [scale(xs, wide), scale(ys, high)];
  const most = Math.max(...regions.map((row) => row.gpus), 1), widest = Math.max(...links.map((link) => link.gbps), 1);
  const picture = svg("svg", { class: "map", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": "Regions by round trip; the table below has the figures" });
  for (const link of links) {
    if (link.region > link.dst_region || !at.has(link.region) || !at.has(link.dst_region)) continue;
    const [a, b] = [where[at.get(link.region)], where[at.get(link.dst_region)]];
    picture.append(svg("line", { class: "link", x1: x(a[0]), y1: y(a[1]), x2: x(b[0]), y2: y(b[1]), "stroke-width": 0.5 + (2 * link.gbps) / widest },
      svg("title", {}, `${link.region} – ${link.dst_region}: ${amount(link.rtt_ms)} ms, ${amount(link.gbps)} Gbit/s, ${usd(link.usd_per_gb)} USD/GB`)));
  }
  const busiest = Math.max(...flows.map((one) => one.copies), 1);
  for (const one of flows) if (at.has(one.region) && at.has(one.to_region)) picture.append(arrow(one, busiest, ...[one.region, one.to_region].map((name) => {
    const place = at.get(name);
    return [x(where[place][0]), y(where[place][1]), 10 + 18 * Math.sqrt(regions[place].gpus / most)];
  })));
  for (const [place, row] of regions.entries()) {
    const [cx, cy] = [x(where[place][0]), y(where[place][1])], radius = 8 + 18 * Math.sqrt(row.gpus / most), share = Math.min(row.utilisation || 0, 1);
    const half = Math.min(row.region.length * 3.7, wide / 2); // of the name's length, at 13 px
    const left = cx > wide * 0.7, beside = narrow ? { x: Math.min(Math.max(cx, half), wide - half), y: cy + radius + 13, "text-anchor": "middle" }
      : { x: cx + (left ? -radius - 6 : radius + 6), y: cy + 4, "text-anchor": left ? "end" : "start" };
    picture.append(svg("g", { class: `place ${row.state}` },
      svg("circle", { cx, cy, r: radius, class: "all" }), svg("circle", { cx, cy, r: radius * Math.sqrt(share), class: "part" }),
      svg("text", beside, row.region),
      svg("title", {}, `${row.region}: ${amount(row.used_gpus)} of ${amount(row.gpus)} GPUs, ${amount(row.running)} tasks run`)));
  }
  return picture;
}

// Bent to its left, so that what goes and what comes back are two arrows; from rim to rim.
function arrow(flow, busiest, [ax, ay, from], [bx, by, to]) {
  const length = Math.hypot(bx - ax, by - ay) || 1, [ux, uy] = [(bx - ax) / length, (by - ay) / length], bend = Math.min(40, length / 4);
  const [sx, sy, ex, ey] = [ax + ux * from, ay + uy * from, bx - ux * to, by - uy * to];
  const [mx, my] = [(sx + ex) / 2 + uy * bend, (sy + ey) / 2 - ux * bend], turn = Math.atan2(ey - my, ex - mx), wide = 1.5 + 4 * Math.sqrt(flow.copies / busiest);
  const tip = [-0.4, 0.4].map((side) => `${ex - Math.cos(turn + side) * (6 + wide)},${ey - Math.sin(turn + side) * (6 + wide)}`);
  return svg("g", { class: "flow" },
    svg("path", { d: `M${sx} ${sy}Q${mx} ${my} ${ex} ${ey}`, "stroke-width": wide }), svg("polygon", { points: `${ex},${ey} ${tip.join(" ")}` }),
    svg("title", {}, `${flow.region} to ${flow.to_region}: ${amount(flow.copies)} copies moved within ten minutes`));
}

// Plans

const DEAREST_GPU = 1000; // prices of an older version hold its price of waiting

// How much less the same copies could cost, as far as is proven; nothing where nothing was placed.
function moneyGap(plan) { return plan.placed_usd ? 1 - plan.least_usd / plan.placed_usd : null; }

function plans(context, body) {
  let models = null; // asked for once: they are files that change when somebody learns anew
  const asked = async () => ({ ...(await context.ask("/v1/forecasts")), ...(await context.ask("/v1/classifiers")) });
  return {
    every: 3,
    load: async () => ({ ...(await context.ask("/v1/plans?limit=60")), ...(models ??= await asked()) }),
    draw: (found) => morph(body, [...planParts(found), ...found.forecasts.map(forecastCard), ...found.classifiers.map(classifierCard)]),
  };
}

// What a model rests on: the longest bar is of what it would miss most.
function restsOn(one, title, figures) {
  const most = Math.max(...one.importance.map((row) => row.added), 1e-9);
  return table([["Rests on", (row) => row.column], [title, (row) => bar(row.added / most, row.added.toFixed(figures))]],
    one.importance, { caption: `What ${one.name} rests on`, narrow: true });
}

// How much worse a forecast is without a column, and than what knows less.
function forecastCard(one) {
  const title = `Forecast: ${one.name}`;
  if (one.trouble) return card(title, el("p.empty", {}, one.trouble));
  const worst = Math.max(...one.scores.map((row) => row.loss), 1e-9);
  return card(title,
    el("p.faint", {}, `${one.what}, learnt from ${count(one.rows)} rows up to `, moment(one.until), `, tried on ${count(one.tried_on)} later ones`),
    restsOn(one, "Loss added without it", 3),
    table([
      ["Forecast", (row) => row.forecast], ["Loss", (row) => bar(row.loss / worst, row.loss.toFixed(3))],
      ["In its interval", (row) => percent(row.coverage), { right: true, title: "80 % is meant" }],
    ], one.scores, { caption: `How good ${one.name} was`, narrow: true }));
}

// What a classifier rests on, why it named one sample so, and what would change that.
function classifierCard(one) {
  const title = `Classifier: ${one.name}`;
  if (one.trouble) return card(title, el("p.empty", {}, one.trouble));
  const { answer, counterfactual: other } = one, most = Math.max(...answer.values.map((row) => Math.abs(row.adds)), 1e-9);
  const version = one.version === null ? "" : ` version ${one.version}`, rightly = answer.named === answer.is ? "rightly" : `it is ${answer.is}`;
  const changes = other?.changes.map((row) => `${row.column} were ${exactly(row.would_be)} instead of ${exactly(row.value)}`).join(" and ");
  return card(title,
    el("p.faint", {}, `${one.model}${version} (${one.sha256.slice(0, 12)}…): ${percent(one.accuracy)} of ${count(one.samples)} samples named rightly, of ${count(one.classes)} classes`),
    restsOn(one, "Points of accuracy lost without it", 2),
    table([
      ["Of the answer", (row) => row.column], ["Is", (row) => exactly(row.value), { right: true }],
      ["Adds to its score", (row) => bar(Math.abs(row.adds) / most, `${row.adds < 0 ? "−" : "+"}${Math.abs(row.adds).toFixed(3)}`)],
    ], answer.values, { caption: `Why ${one.name} names sample ${answer.sample} ${answer.named}`, narrow: true }),
    el("p", {}, `Sample ${answer.sample} is named ${answer.named} (${rightly}), by a score of ${answer.score.toFixed(3)} where ${answer.base.toFixed(3)} is usual. `,
      other ? `It would be named ${other.named} if ${changes}.` : "No change of few features was found with which it would be named otherwise."));
}

function planParts(found) {
  const plans = found.plans;
  if (!plans.length) return [el("p.empty", {}, "No plan yet: the place job plans when a task waits. Is it running? thalweg ps")];
  const newest = plans[0], prices = (newest.pool_prices || []).slice(0, 12), turned = plans.slice().reverse();
  const isOld = newest.delay_usd_per_hour === null, gap = moneyGap(newest);
  return [
    el("div.figures", {},
      figure("Placed", amount(newest.placed), "copies", `${amount(newest.considered)} tasks considered`, sparkline(turned.map((plan) => plan.placed), "placed")),
      figure("They cost", isOld ? "–" : usd(newest.placed_usd_per_hour), "USD/h", gap === null ? "" : gap < 5e-5 ? "the same for less: none, that is proven" : `the same for less: at most ${percent(gap)}`, sparkline(turned.map((plan) => plan.placed_usd_per_hour || 0), "USD an hour")),
      figure("Waiting", amount(newest.waiting), "tasks", `${amount(newest.revoked)} copies gave way`, sparkline(turned.map((plan) => plan.waiting), "waiting")),
      figure("An hour's delay of them costs", isOld ? "–" : usd(newest.delay_usd_per_hour), "USD/h", "what their values say", sparkline(turned.map((plan) => plan.delay_usd_per_hour || 0), "USD an hour")),
      figure("Time to plan", milliseconds(newest.plan_ms), "", "the newest", sparkline(turned.map((plan) => plan.plan_ms), "milliseconds"))),
    prices.length ? card("What one GPU more would save", table([
      ["Pool", (row) => row.pool_id],
      ["Costs", (row) => `${usd(row.usd_per_gpu_hour)} USD/h`, { right: true }],
      ["Would save", (row) => (isOld && row.saves_usd_per_hour >= DEAREST_GPU ? "a waiting task would start" : `${usd(row.saves_usd_per_hour)} USD/h`), { right: true, title: "the delay of what waits for it, or what copies would cost less there that had to go elsewhere" }],
      ["", (row) => (row.saves_usd_per_hour > (row.usd_per_gpu_hour ?? Infinity) ? el("span.state", { "data-state": "running" }, el("i"), "worth renting") : ""), { name: "Advice" }],
    ], prices, { caption: "Prices of pools", narrow: true })) : null,
    card("Plans", table([
      ["Planned", (row) => moment(row.planned_at), { right: true }],
      ["Strategy", (row) => row.strategy], ["", (row) => state(row.status)],
      ["Considered", (row) => amount(row.considered), { right: true }], ["Placed", (row) => amount(row.placed), { right: true }],
      ["Costs USD/h", (row) => usd(row.placed_usd_per_hour), { right: true, title: "what the copies that it placed cost an hour together" }],
      ["Whole runs USD", (row) => usd(row.placed_usd), { right: true, title: "what they cost until they end" }],
      ["At least", (row) => usd(row.least_usd), { right: true, title: "no plan of the same copies costs less: the bound" }],
      ["Gap", (row) => percent(moneyGap(row)), { right: true, title: "how much less the same copies could cost, as far as is proven" }],
      ["Gave way", (row) => amount(row.revoked), { right: true }], ["Waiting", (row) => amount(row.waiting), { right: true }],
      ["Delay USD/h", (row) => usd(row.delay_usd_per_hour), { right: true, title: "what an hour's delay of all that waits costs" }],
      ["Read", (row) => milliseconds(row.read_ms), { right: true }], ["Plan", (row) => milliseconds(row.plan_ms), { right: true }],
      ["Commit", (row) => milliseconds(row.commit_ms), { right: true }], ["Publish", (row) => milliseconds(row.publish_ms), { right: true }],
    ], plans, { caption: "Newest plans" })),
  ];
}

// Tenants

function tenants(context, body) {
  return {
    every: 4,
    load: async () => ({ ...(await context.ask("/v1/tenants")), ...(await standing(context)) }),
    draw: (found) => morph(body, tenantParts(found, context)),
  };
}

function tenantActs(context, orders, row) {
  const tenant = row.tenant || "default", held = orders.some((one) => one.subject === `hold/${tenant}`);
  const number = (name, title, value) => ({ name, title, type: "number", min: "0", step: "any", value: value ?? "" });
  return el("span.acts", {},
    orderButton(context, "Limits", { order: { order: "tenant", tenant }, title: `Limits of ${tenant}`, yes: "Yes, set them", label: `Limits of ${tenant}`, fields: [
      number("weight", "Weight", row.weight), number("quota_gpus", "Quota, GPUs (blank: as it is)", row.quota_gpus),
      number("budget_usd_per_hour", "Budget, USD an hour (blank: as it is)", row.budget_usd_per_hour),
      { ...number("most_tasks", "Tasks at once (blank: as it is)"), step: "1" },
      { name: "reset", title: "Back to what the settings say", type: "checkbox" }],
      made: ({ reset, ...rest }) => (reset ? { order: "tenant", tenant, reset: true } : rest) }),
    orderButton(context, held ? "Release" : "Hold", { order: { order: held ? "release" : "hold", tenant }, label: `${held ? "Release" : "Hold"} ${tenant}`,
      title: held ? `Let tasks of ${tenant} start again?` : `Let nothing of ${tenant} start?` }));
}

function tenantParts(found, context) {
  const gpus = found.gpus || 1;
  return [
    el("p.faint", {}, `${amount(found.gpus)} GPUs are shared by weight among those that want some; what one leaves is lent to the others.`),
    card("Fair share", table([
      ["Tenant", (row) => el("a", { href: `#/tasks?tenant=${encodeURIComponent(row.tenant || "")}` }, row.tenant || "(none)")],
      ["Uses", (row) => bar(row.used_gpus / gpus, `${amount(row.used_gpus)} GPUs`)],
      ["Wants", (row) => amount(row.wanted_gpus), { right: true }],
      ["Deserves", (row) => amount(Math.round(row.deserved_gpus)), { right: true, title: "what the planner's rule gives it now" }],
      ["By weight", (row) => amount(Math.round(row.share_gpus)), { right: true }],
      ["Borrows", (row) => (row.borrowed_gpus >= 0.5 ? amount(Math.round(row.borrowed_gpus)) : "–"), { right: true }],
      ["Quota", (row) => (row.quota_gpus === null ? "none" : amount(row.quota_gpus)), { right: true }],
      ["Weight", (row) => amount(row.weight), { right: true }],
      ["Tasks at most", (row) => amount(row.most_tasks), { right: true, title: "so many may not have ended at once; what comes beyond is refused" }],
      ["Waiting", (row) => amount(row.by_state.waiting || 0), { right: true }],
      ["Running", (row) => amount(row.by_state.running || 0), { right: true }],
      ["USD/h", (row) => usd(row.usd_per_hour), { right: true }],
      ...(context.me.orders?.tenant ? [["", (row) => tenantActs(context, found.orders, row), { name: "Acts" }]] : []),
    ], found.tenants, { caption: "Tenants", key: (row) => row.tenant, empty: "No tenant has a task that lives." })),
    ordersCard(found.orders, ["tenant", "hold"]),
  ];
}

// Sync

function syncParts(found) {
  const totals = found.totals;
  return [
    el("div.figures", {}, figure("Records", amount(totals.records)), figure("Tombstones", amount(totals.tombstones)),
      figure("Conflicts", amount(totals.conflicts), "", "ever, each a row with both values"), figure("Gaps", amount(totals.gaps_open), "open")),
    card("Regions", table([
      ["Region", (row) => row.region], ["Agrees", (row) => (row.agrees === null ? "not compared" : state(row.agrees ? "agrees" : "differs"))],
      ["Lag", (row) => amount(row.lag), { right: true, title: "records of the replica topic that it has not acknowledged" }],
      ["Waiting", (row) => amount(row.waiting), { right: true, title: "writes that the centre has not confirmed" }],
      ["Gaps", (row) => amount(row.gaps_open), { right: true }], ["Conflicts", (row) => amount(row.conflicts), { right: true }],
      ["Parked", (row) => amount(row.parked), { right: true }], ["Refused", (row) => amount(row.refused), { right: true }],
      ["Clock", (row) => (row.offset_ms === null ? "" : `${row.offset_ms > 0 ? "+" : ""}${amount(row.offset_ms)} ms`), { right: true }],
      ["Heard", (row) => (row.heard_s === null ? "never" : `${duration(row.heard_s)} ago`), { right: true }],
    ], found.regions, { caption: "Replication by region", empty: "No region has written a record." })),
    found.gaps.length ? card("Open gaps", table([
      ["Region", (row) => row.region], ["Epoch", (row) => row.epoch, { right: true }],
      ["Missing", (row) => `${amount(row.first_seq)} to ${amount(row.last_seq)}`, { right: true }],
      ["Found", (row) => moment(row.found_at), { right: true }], ["Asked for", (row) => moment(row.asked_at), { right: true }],
    ], found.gaps, { caption: "Open gaps" })) : null,
    card("Newest conflicts", table([
      ["Key", (row) => el("code", {}, row.key)], ["Found", (row) => moment(row.found_at), { right: true }],
      ["Won", (row) => row.winner_region], ["Policy", (row) => row.policy || row.resolution || ""],
      ["One value", (row) => value(row.left_region, row.left_value), { wide: true }],
      ["The other", (row) => value(row.right_region, row.right_value), { wide: true }],
    ], found.newest_conflicts, { caption: "Conflicts", empty: "No two regions have written the same record at once." })),
    found.newest_refusals.length ? card("Newest refusals", table([
      ["When", (row) => moment(row.at), { right: true }], ["Region", (row) => row.region], ["", (row) => state(row.verdict)],
      ["Key", (row) => row.key || ""], ["Reason", (row) => row.reason, { wide: true }],
    ], found.newest_refusals, { caption: "Refusals" })) : null,
  ];
}

function value(region, text) { return [el("span.faint", {}, `${region || ""} `), el("code", {}, text === null ? "deleted" : String(text).slice(0, 200))]; }

// Data quality

function qualityParts(found) {
  return [
    card("Quarantined within a day, by rule", table([
      ["Rule", (row) => el("code", {}, row.rule)], ["Flow", (row) => row.flow],
      ["Rows", (row) => amount(row.rows), { right: true }], ["Newest", (row) => moment(row.newest), { right: true }],
    ], found.rules, { caption: "Quarantine by rule", empty: "Nothing was quarantined." })),
    found.sync_refused.length ? card("State changes refused or parked within a day", table([
      ["", (row) => state(row.verdict)], ["Rows", (row) => amount(row.rows), { right: true }], ["Newest", (row) => moment(row.newest), { right: true }],
    ], found.sync_refused, { caption: "State changes" })) : null,
    ...refusedCards(found.refused),
    card("Quarantined: the newest, with their bytes", found.newest.length ? found.newest.map((row) => el("details", { "data-key": `${row.topic}/${row.topic_partition}/${row.topic_offset}` },
      el("summary", {}, moment(row.quarantined_at), el("code", {}, row.rule), el("span", {}, row.reason)),
      el("p.faint", {}, `${row.topic} · partition ${row.topic_partition} · offset ${row.topic_offset}`), el("pre", { tabindex: "0" }, row.raw)))
      : el("p.empty", {}, "Nothing was quarantined within a day.")),
  ];
}

function refusedCards(refused) {
  const none = refused.trouble ? `They cannot be read now: ${refused.trouble}` : refused.is_read ? "No record was refused." : "They are being read …";
  return [
    card("Records refused within a day, by rule", table([
      ["Rule", (row) => el("code", {}, row.rule || "(none)")], ["Refused by", (row) => row.flow || "(unknown)"],
      ["Rows", (row) => amount(row.rows), { right: true }], ["Newest", (row) => moment(row.newest), { right: true }],
    ], refused.rules, { caption: "Refused by rule", empty: none })),
    refused.newest.length ? card("Refused: the newest, with their bytes", refused.newest.map((row) => el("details", { "data-key": `${row.topic}/${row.topic_partition}/${row.topic_offset}` },
      el("summary", {}, moment(row.at), el("code", {}, row.flow), el("span", {}, row.reason)),
      el("p.faint", {}, `${row.topic} · partition ${row.topic_partition} · offset ${row.topic_offset} · ${amount(row.bytes)} bytes${row.key ? ` · key ${row.key}` : ""}`),
      el("pre", { tabindex: "0" }, row.raw)))) : null,
  ];
}

// Money

function money(context, body) {
  const by = context.query.get("by") || "tenant", since = context.query.get("since") || "7d";
  const link = (name, what) => el("a", { href: `#/money?by=${what.by || by}&since=${what.since || since}`,
    "aria-current": (what.by || by) === by && (what.since || since) === since ? "true" : null }, name);
  return {
    every: 10,
    load: () => context.ask(`/v1/money?by=${by}&since=${since}&limit=500`),
    draw(found) {
      const most = Math.max(...found.rows.map((row) => row.usd), 1e-9);
      morph(body, [
        el("div.choices", {}, el("div", { role: "group", "aria-label": "Sum by" }, ["tenant", "region", "day", "task"].map((one) => link(one, { by: one }))),
          el("div", { role: "group", "aria-label": "Since" }, [["1d", "a day"], ["7d", "a week"], ["30d", "30 days"]].map(([one, name]) => link(name, { since: one })))),
        el("div.figures", {}, figure("Compute", usd(found.total.usd), "USD"), figure("GPU-hours", amount(found.total.gpu_hours)),
          figure("Egress", usd(found.total.egress_usd), "USD", `${amount(found.total.egress_gb)} GB`), figure("Waited", duration(found.total.waited_h * 3600), "", "all tasks together"),
          figure("Saved now", usd(found.compared.saved_usd_per_hour), "USD/h", found.compared.evenly_usd_per_hour ? `${usd(found.compared.evenly_usd_per_hour)} USD/h for the same GPUs spread evenly` : "nothing runs that can be compared")),
        card(`By ${by}`, table([
          [by[0].toUpperCase() + by.slice(1), (row) => (by === "task" && row.task ? taskLink(row.task) : row[by] || "(none)")],
          ["Share", (row) => bar(row.usd / most, percent(found.total.usd ? row.usd / found.total.usd : 0))],
          ["USD", (row) => usd(row.usd), { right: true }], ["GPU-hours", (row) => amount(row.gpu_hours), { right: true }],
          ["Egress USD", (row) => usd(row.egress_usd), { right: true }], ["Egress GB", (row) => amount(row.egress_gb), { right: true }],
          ["Waited", (row) => duration(row.waited_h * 3600), { right: true }],
        ], found.rows, { caption: `Money by ${by}`, empty: "Nothing was held or waited for in this time." }),
        found.in_all > found.rows.length ? el("p.faint", {}, `${amount(found.rows.length)} of ${amount(found.in_all)}.`) : "")]);
    },
  };
}

// Audit

// Said in words where it says what was and what is; else as it stands.
function detailed(text, subject) {
  let told;
  try { told = JSON.parse(text); } catch { return text || ""; }
  if (!told || !("after" in told)) return text;
  if (told.after === null) return "taken back";
  const words = (one) => Object.entries(one).filter(([name, value]) => value !== null && !["type", "op"].includes(name) && !subject.includes(String(value)))
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? amount(value) : value}`).join(", ");
  const before = told.before ? words(told.before) : "";
  return `${words(told.after)}${before ? ` (before: ${before})` : ""}`;
}

function auditParts(found) {
  return [card("Who did what to the system itself", table([
    ["When", (row) => moment(row.at), { right: true }], ["Who", (row) => row.actor], ["What", (row) => row.action],
    ["To", (row) => (row.subject || "").replace(`${row.action}/`, "")], ["Outcome", (row) => row.outcome || ""],
    ["Detail", (row) => detailed(row.detail, row.subject || ""), { wide: true }],
  ], found.audit, { caption: "Audit", empty: "Nothing was written yet: the maintain job keeps this table." }))];
}

export const PAGES = {
  overview, regions, money, tenants, "what-if": whatIfPage,
  plans,
  sync: simple("/v1/sync", syncParts, 5),
  quality: simple("/v1/quality", qualityParts, 10),
  audit: simple("/v1/audit", auditParts, 10),
};
