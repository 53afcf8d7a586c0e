"use strict";
// Reads data/info.json and data/NUMBER.json. Text of the data goes into the page as text nodes, never as markup.

const PAGE = 50, DOTS = 24, SHAPES = { right: "●", wrong: "○", tie: "◐" }, TONES = { right: "hit", wrong: "miss", tie: "" };
const $ = (id) => document.getElementById(id);
const loaded = new Map(), waiting = new Map();
const state = { info: null, rows: [], start: 0, query: "", search: 0 };

async function read(path) {
  // An export holds its data in the page: a browser fetches nothing from a folder.
  const held = $(path);
  if (held) return JSON.parse(held.textContent);
  const answer = await fetch(path).catch(() => { throw new Error(`${path} cannot be read; does repeng browse still run?`); });
  if (!answer.ok) throw new Error(`${path} cannot be read: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

function load(name) {
  if (!waiting.has(name)) {
    const keep = (value) => { loaded.set(name, value); return value; };
    const forget = (error) => { waiting.delete(name); throw error; };
    waiting.set(name, read(`data/${name}.json`).then(keep).catch(forget));
  }
  return waiting.get(name);
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Control characters as symbols, and marks that turn text round by their number: what is there can be seen.
const visible = (text) => text
  .replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
  .replace(/\u007f/g, "\u2421")
  .replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase()}⟩`);

function marked(text, query) {
  const parts = [], lower = text.toLowerCase();
  let from = 0;
  // Where lower case has another length the places would not fit: then nothing is marked.
  for (let at; query && lower.length === text.length && parts.length < 400 && (at = lower.indexOf(query, from)) >= 0;) {
    parts.push(visible(text.slice(from, at)), element("mark", {}, visible(text.slice(at, at + query.length))));
    from = at + query.length;
  }
  parts.push(visible(text.slice(from)));
  return parts;
}

const plain = (text) => text.replace(/\s+/g, " ").trim();

// A piece of a text from a place on; from the hit on where the search finds it elsewhere.
function piece(text, from, most) {
  const at = state.query ? text.toLowerCase().indexOf(state.query) : -1;
  const start = at >= 0 && (at < from || at + state.query.length > from + most) ? Math.max(0, at - 40) : from;
  return (start ? "…" : "") + plain(text.slice(start, start + most)) + (start + most < text.length ? "…" : "");
}

// A prompt without what (nearly) all of the split begin and end with; as it is where nothing else is in it.
function own(text, frame) {
  const start = frame.beginnings.find((one) => text.startsWith(one)) || "", rest = text.slice(start.length);
  const end = frame.endings.find((one) => rest.endsWith(one)) || "", left = rest.slice(0, rest.length - end.length);
  if (!left.trim()) return text;
  return (start && !start.endsWith("\n") ? "…" : "") + left + (end && !end.startsWith("\n") ? "…" : "");
}

function asked(text, frame) {
  const left = own(text, frame), hit = state.query && !left.toLowerCase().includes(state.query) && text.toLowerCase().includes(state.query);
  return hit ? piece(text, 0, 160) : piece(left, 0, 160);
}

// Where two texts begin to differ, some words earlier; 0 where both fit a row anyhow.
function difference(one, other) {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at += 1;
  return at > 50 ? Math.max(0, one.lastIndexOf(" ", at - 25) + 1) : 0;
}

function lines(row, data) {
  const example = data.examples[row.item[0]], made = [];
  const line = (kind, ...children) => made.push(element("span", { class: kind }, ...children));
  const mark = (right, name) => [element("span", { "aria-hidden": "true" }, right ? "✓ " : "✗ "), element("span", { class: "unseen" }, `${name}: `)];
  if (example.prompt) line("asked", ...marked(asked(example.prompt, data.frame), state.query));
  if (row.text) {
    const text = example.responses[row.item[1]], said = example.prompt ? piece(text, 0, 160) : asked(text, data.frame);
    line(`said ${row.item[2] ? "good" : "bad"}`, element("b", {}, `label ${row.item[2]} `), ...marked(said, state.query));
    return made;
  }
  const [, best, worse, other] = row.item;
  // Blanks are collapsed first: code that is indented otherwise looks alike up to where it reads differently.
  const texts = [example.responses[best], data.examples[other ?? row.item[0]].responses[worse]].map(plain), from = difference(...texts);
  line("said good", ...mark(true, "right"), ...marked(piece(texts[0], from, 120), state.query));
  if (other !== undefined && data.examples[other].prompt) line("asked", ...marked(asked(data.examples[other].prompt, data.frame), state.query));
  line("said bad", ...mark(false, "wrong"), ...marked(piece(texts[1], from, 120), state.query));
  return made;
}

// How many predictions are right about an item: a dot each, full where right, and on hover whose.
function tally(row, data) {
  const said = data.predictions.map((one) => [verdict(one.p[row.number] ?? NaN), state.info.methods[one.method] + (one.source ? ` (${one.source})` : ""), one.p[row.number]])
    .filter(([, , p]) => p !== null && p !== undefined);
  if (!said.length) return [];
  const of = (kind) => said.filter(([one]) => one === kind), listed = ["right", "wrong", "tie"].filter((kind) => of(kind).length);
  const hover = listed.map((kind) => `${kind}: ${of(kind).map(([, name]) => name).join(", ")}`).join("\n");
  const dots = said.length > DOTS ? [] : listed.map((kind) => element("span", { class: TONES[kind], "aria-hidden": "true" }, SHAPES[kind].repeat(of(kind).length)));
  const counts = listed.map((kind) => `${of(kind).length} ${kind}`).join(", ");
  return [element("span", { class: "tally", title: hover }, ...dots, ` ${counts}`)];
}

// A split holds pairs, as [example, best, worse(, example of the worse)]; or labelled texts, as [example, response, label].
const itemsOf = (data) => data.texts || data.pairs;
const counted = (count, name) => `${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`;

const verdict = (p) => (p > 0.5 ? "right" : p < 0.5 ? "wrong" : "tie");
const sureness = (row) => Math.max(row.p, 1 - row.p);

function wanted() {
  const distribution = $("distribution").value, split = $("split").value;
  return state.info.splits.map((part, number) => ({ ...part, number }))
    .filter((part) => (!distribution || part.name === distribution) && (!split || part.split === split));
}

function matching(part, data, query, method) {
  const hit = data.examples.map((one) => !query || [one.prompt, ...one.responses].some((text) => text.toLowerCase().includes(query)));
  const rows = [];
  const lists = method === "" ? [null] : data.predictions.filter((one) => one.method === Number(method));
  const lowest = Number($("confidence").value), asked = $("verdict").value;
  for (const list of lists) {
    itemsOf(data).forEach((item, number) => {
      const p = list ? list.p[number] : null;
      if (!hit[item[0]]) return;
      if (list && (p === null || (asked && verdict(p) !== asked) || Math.max(p, 1 - p) < lowest)) return;
      rows.push({ part, number, item, p, text: Boolean(data.texts), source: list ? list.source : "" });
    });
  }
  return rows;
}

async function search() {
  const turn = ++state.search, parts = wanted(), method = $("method").value;
  const query = $("query").value.toLowerCase(), rows = [];
  for (const [done, part] of parts.entries()) {
    if (parts.length > 3 && done % 5 === 0) $("status").textContent = `Reading ${done} of ${parts.length} …`;
    const data = await load(String(part.number));
    if (turn !== state.search) return;
    for (const row of matching(part, data, query, method)) rows.push(row);
  }
  if (method !== "" && $("order").value !== "file") {
    const sign = $("order").value === "sure" ? -1 : 1;
    rows.sort((a, b) => sign * (sureness(a) - sureness(b)));
  }
  Object.assign(state, { rows, query, start: 0 });
  draw();
}

const address = (row) => `#${new URLSearchParams({ distribution: row.part.name, split: row.part.split, [row.text ? "text" : "pair"]: row.number })}`;

function draw() {
  const { rows, start } = state, shown = rows.slice(start, start + PAGE);
  const texts = rows.filter((row) => row.text).length, pairs = rows.length - texts;
  $("status").textContent = [pairs || !texts ? counted(pairs, "pair") : "", texts ? counted(texts, "text") : ""].filter(Boolean).join(", ");
  $("rows").replaceChildren(...shown.map((row) => {
    const data = loaded.get(String(row.part.number));
    const where = `${row.part.name} ${row.part.split}, example ${row.item[0]}` + (row.source ? `, fitted on ${row.source}` : "");
    const link = element("a", { href: address(row) }, ...lines(row, data));
    const small = element("small", {}, where), said = row.text ? `p(label ${row.item[2]})` : "p(best)";
    if (row.p !== null) small.append(": ", element("span", { class: verdict(row.p) }, `${verdict(row.p)}, ${said} ${row.p.toFixed(3)}`));
    link.append(small, ...tally(row, data));
    return element("li", {}, link);
  }));
  $("place").textContent = rows.length ? `${start + 1} to ${start + shown.length}` : "";
  $("previous").disabled = start === 0;
  $("next").disabled = start + PAGE >= rows.length;
  current();
}

function current() {
  for (const link of $("rows").querySelectorAll("a")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function block(title, text, kind = "") {
  return [element("h3", {}, title),
    element("div", { class: `text-block ${kind}`, tabindex: "0", role: "group", "aria-label": title }, ...marked(text, state.query))];
}

async function open() {
  current();
  const asked = new URLSearchParams(location.hash.slice(1));
  const number = state.info.splits.findIndex((part) => part.name === asked.get("distribution") && part.split === asked.get("split"));
  if (number < 0) return;
  const data = await load(String(number)), place = Number(asked.get(data.texts ? "text" : "pair")), item = itemsOf(data)[place];
  if (!item) return;
  const part = state.info.splits[number], at = item[0], example = data.examples[at];
  const { blocks, scored, said } = (data.texts ? textBlocks : pairBlocks)(item, example, data);
  const found = data.predictions.map((one) => ({ ...one, value: one.p[place] })).filter((one) => one.value !== null);
  const whole = $("pair");
  whole.replaceChildren(element("h2", {}, `${part.name} ${part.split}, example ${at}`), ...blocks);
  if (state.info.tokens) whole.append(...strips(number, scored));
  if (found.length) whole.append(element("h3", {}, "Predictions"), predictions(found, said));
  whole.append(element("p", {}, back()));
  whole.scrollTop = 0;
  // Next to the list the pair is in sight already; under it, on a phone, it is not.
  whole.focus({ preventScroll: true });
  if (whole.getBoundingClientRect().top > window.innerHeight / 2) whole.scrollIntoView();
}

// A chat turn by turn; nothing where there is no prompt, as of a statement.
function promptBlocks(example) {
  if (example.turns) return example.turns.flatMap(([role, text]) => block(role, text));
  return example.prompt ? block("Prompt", example.prompt) : [];
}

function pairBlocks([at, best, worse, other = at], example, data) {
  const another = data.examples[other], rest = example.responses.map((text, i) => [text, i]).filter(([, i]) => i !== best && (other !== at || i !== worse));
  const blocks = [...promptBlocks(example), ...block("Best response", example.responses[best], "best"),
    ...(other !== at ? promptBlocks(another) : []), ...block("Worse response", another.responses[worse], "preferred"),
    ...rest.flatMap(([text, i]) => example.right.includes(i) ? block(`Another right response (${i + 1})`, text, "best") : block(`Another worse response (${i + 1})`, text))];
  return { blocks, scored: [[at, best, "Best response"], [other, worse, "Worse response"]], said: "p(best)" };
}

function textBlocks([at, number, label], example) {
  const colour = (right) => (right ? "best" : "preferred"), bare = !example.prompt && example.responses.length === 1;
  const title = example.region === "all" ? `Last turn; the whole conversation has label ${label}` : `${bare ? "Text" : "Response"}, label ${label}`;
  const rest = example.responses.map((text, i) => [text, i]).filter(([, i]) => i !== number);
  const blocks = [...promptBlocks(example), ...block(title, example.responses[number], colour(label)),
    ...rest.flatMap(([text, i]) => block(`Another response (${i + 1}), label ${example.right.includes(i) ? 1 : 0}`, text))];
  return { blocks, scored: [[at, number, bare ? "Text" : "Response"]], said: `p(label ${label})` };
}

function back() {
  const button = element("button", { type: "button" }, "Back to the list");
  button.addEventListener("click", () => ($("rows").querySelector("[aria-current]") || $("query")).focus());
  return button;
}

function predictions(found, said) {
  const head = element("tr", {}, ...["method", "fitted on", said, "verdict"].map((name) => element("th", { scope: "col", class: "text" }, name)));
  const rows = found.map((one) => element("tr", {},
    element("th", { scope: "row" }, state.info.methods[one.method]), element("td", { class: "text" }, one.source),
    element("td", {}, one.value.toFixed(3)), element("td", { class: `text ${verdict(one.value)}` }, verdict(one.value))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Predictions" }, table);
}

function strips(part, responses) {
  const button = element("button", { type: "button" }, "Score token by token"), place = element("div");
  button.addEventListener("click", async () => {
    button.disabled = true;
    place.textContent = "Scoring …";
    try {
      const answers = await Promise.all(responses.map(async ([at, number]) => (await load(`tokens-${part}-${at}`))[number]));
      const most = Math.max(1e-12, ...answers.flat().map(([, score]) => Math.abs(score)));
      place.replaceChildren(...answers.flatMap((tokens, i) => strip(responses[i][2], tokens, most)));
    } catch (error) {
      place.textContent = `The tokens could not be scored: ${error.message}`;
    }
    button.disabled = false;
  });
  return [element("h3", {}, "Tokens"), element("p", {}, button), place];
}

function strip(title, tokens, most) {
  const spans = tokens.map(([text, score]) => {
    const span = element("span", { class: score >= 0 ? "above" : "below", title: score.toFixed(3) }, visible(text));
    span.style.setProperty("--heat", String(Math.round(60 * Math.abs(score) / most)));
    return span;
  });
  const rows = tokens.map(([text, score]) => element("tr", {}, element("th", { scope: "row" }, visible(text)), element("td", {}, score.toFixed(3))));
  const head = element("tr", {}, element("th", { scope: "col" }, "token"), element("th", { scope: "col" }, "score"));
  const list = element("details", {}, element("summary", {}, `${title}: scores as a list`),
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  return [element("h4", {}, `${title}: blue for, orange against`),
    element("div", { class: "text-block strip", tabindex: "0", role: "group", "aria-label": `${title}, token by token` }, ...spans), list];
}

function fill(id, options) {
  $(id).replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
}

async function start() {
  state.info = await load("info");
  const { splits: parts, methods } = state.info;
  const names = [...new Set(parts.map((part) => part.name))], splits = [...new Set(parts.map((part) => part.split))];
  fill("distribution", [...names.map((name) => [name, name]), ["", `all ${names.length} distributions`]]);
  fill("split", [...splits.map((name) => [name, name]), ["", "all splits"]]);
  fill("method", [["", "none"], ...methods.map((name, number) => [String(number), name])]);
  for (const one of document.querySelectorAll(".scored")) one.hidden = !methods.length;
  const asked = new URLSearchParams(location.hash.slice(1));
  if (names.includes(asked.get("distribution"))) $("distribution").value = asked.get("distribution");
  if (splits.includes(asked.get("split"))) $("split").value = asked.get("split");
  let timer;
  $("query").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(tell(search), 150); });
  // Not the search field's own: it changes as the reader leaves it for a row, which would be redrawn under the click.
  for (const choice of document.querySelectorAll("select")) choice.addEventListener("change", tell(search));
  $("filters").addEventListener("submit", (event) => { event.preventDefault(); tell(search)(); });
  $("previous").addEventListener("click", () => { state.start -= PAGE; draw(); });
  $("next").addEventListener("click", () => { state.start += PAGE; draw(); });
  window.addEventListener("hashchange", tell(open));
  await search();
  if (location.hash.length > 1) await open();
}

// A failure is said on the page rather than lost in the console.
const tell = (work) => () => work().catch((error) => { $("status").textContent = error.message; });

tell(start)();
