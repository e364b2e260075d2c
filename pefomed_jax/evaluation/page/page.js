"use strict";
// The list of cases: search, filters, order, pages. case_list.py describes the data.

const PER_PAGE = 50;
const ID = 0, MATCH = 1, IMAGES = 2, PROMPT = 3, REFERENCES = 4, ANSWER = 5, SCORES = 6, FIELDS = 7,
  FILTERS = 8;
const ORDERS = {
  score: { up: "worst first", down: "best first" },
  words: { up: "shortest first", down: "longest first" },
  id: { up: "A to Z", down: "Z to A" },
  file: { up: "first to last", down: "last to first" },
};

const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);
const data = read("data");
const images = read("images");
const looked = images.some(([, , why]) => why !== "not looked for");
const whole = (text) => (typeof text === "string" ? text : text[0]);
const length = (text) => (typeof text === "string" ? text.length : text[1]);
const words = (text) => whole(text).split(/\s+/).filter(Boolean);

let haystacks = null; // what is searched of each case, made when it is first needed
let found = data.cases.map((_, i) => i);
let page = 0;

function haystack(row) {
  const texts = [row[ID], whole(data.prompts[row[PROMPT]]), whole(row[ANSWER])];
  texts.push(...row[REFERENCES].map(whole), ...row[FIELDS].map((held) => (held ? whole(held) : "")));
  texts.push(...row[IMAGES].map((i) => images[i][0]));
  return texts.join("\n").toLowerCase();
}

function fits(row, i, query, match, chosen) {
  if (match === "empty" ? whole(row[ANSWER]).trim() : match && row[MATCH] !== Number(match)) return false;
  if (!chosen.every((value, f) => value === "" || row[FILTERS][f].includes(Number(value)))) return false;
  return query.every((word) => haystacks[i].includes(word));
}

function select() {
  const query = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  if (query.length && !haystacks) haystacks = data.cases.map(haystack);
  const match = byId("match").value;
  const chosen = data.filters.map((_, f) => byId(`filter-${f}`).value);
  found = [];
  data.cases.forEach((row, i) => { if (fits(row, i, query, match, chosen)) found.push(i); });
  sort();
}

// Scores that every case has: they decide where the chosen one is equal.
const everywhere = [...data.scores.keys()].filter((s) => data.cases.every((row) => row[SCORES][s] !== null));

// One list of keys a case; where the first are equal, the next decide. null is last in any order.
function keys(by) {
  if (by === "file") return (row, i) => [i];
  if (by === "words") return (row) => [length(row[ANSWER]) > whole(row[ANSWER]).length
    ? length(row[ANSWER]) : words(row[ANSWER]).length];
  const first = Number(by);
  const order = [first, ...everywhere.filter((s) => s !== first)];
  return (row) => order.map((s) => row[SCORES][s]);
}

function compare(a, b, sign) {
  for (let k = 0; k < a.length; k++) {
    if (a[k] === b[k]) continue;
    if (a[k] === null || b[k] === null) return a[k] === null ? 1 : -1;
    return sign * (a[k] - b[k]);
  }
  return 0;
}

function sort() {
  const by = byId("sort").value, sign = byId("order").value === "down" ? -1 : 1;
  if (by === "id") {
    const collator = new Intl.Collator("en", { numeric: true });
    found.sort((a, b) => sign * collator.compare(data.cases[a][ID], data.cases[b][ID]) || a - b);
  } else {
    const of = keys(by), made = new Map(found.map((i) => [i, of(data.cases[i], i)]));
    found.sort((a, b) => compare(made.get(a), made.get(b), sign) || a - b);
  }
  page = 0;
  show();
}

function show() {
  const start = page * PER_PAGE, some = found.slice(start, start + PER_PAGE);
  const number = (n) => n.toLocaleString("en");
  const total = data.cases.length;
  const range = some.length ? `${number(start + 1)} to ${number(start + some.length)} of ` : "";
  byId("shown").textContent = found.length === total
    ? `cases ${range}${number(total)}`
    : `cases ${range}${number(found.length)} that fit, of ${number(total)}`;
  byId("list").replaceChildren(...some.map((i) => card(data.cases[i])));
  if (!some.length) byId("list").append(el("li", "note", total ? "No case fits." : "No case."));
  for (const box of document.querySelectorAll(".turn")) turn(box);
}

function turn(box) {
  const last = Math.max(0, Math.ceil(found.length / PER_PAGE) - 1);
  if (!last) return box.replaceChildren();
  const button = (text, to) => {
    const made = el("button", "", text);
    made.type = "button";
    made.disabled = to < 0 || to > last;
    made.addEventListener("click", () => go(to));
    return made;
  };
  const where = el("span", "muted", `page ${page + 1} of ${last + 1}`);
  box.replaceChildren(button("previous", page - 1), where, button("next", page + 1));
}

function go(to) {
  page = to;
  show();
  byId("shown").focus({ preventScroll: true });
  byId("controls").scrollIntoView({ block: "start" });
}

function orders() {
  const by = byId("sort").value;
  const names = ORDERS[by in ORDERS ? by : "score"];
  byId("order").replaceChildren(...Object.entries(names).map(([key, text]) => new Option(text, key)));
  if (by === "words") byId("order").value = "down";
}

function later(work, wait) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(work, wait); };
}

function start() {
  const form = byId("controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { orders(); select(); }));
  byId("search").addEventListener("input", later(select, 120));
  byId("sort").addEventListener("change", () => { orders(); sort(); });
  byId("order").addEventListener("change", sort);
  byId("marks").addEventListener("change", show);
  byId("match").addEventListener("change", select);
  data.filters.forEach((_, f) => byId(`filter-${f}`).addEventListener("change", select));
  around();
  orders();
  select();
}

function around() {
  const held = [data.before, data.after].filter(Boolean);
  const same = data.prompts.every((text) => text === "") && held.length;
  byId("around").textContent = !held.length ? "" : same
    ? `All prompts are: ${held.join("")}` : `All prompts are: ${data.before} … ${data.after}`;
}

document.addEventListener("DOMContentLoaded", start);
