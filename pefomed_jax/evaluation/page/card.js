// One case of the list. Every text becomes a text node, never markup.

const SHORT = 60; // characters: the two sides stand near each other
const ALIKE = 0.25; // part of the shorter text that both must have
const MOST_COMPARED = 600; // words of a text whose differences are marked

function el(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

function card(row) {
  const made = el("li", "case");
  const films = looked ? row[IMAGES].map((i, n) => film(images[i], n + 1, row[IMAGES].length)) : [];
  if (films.length) made.append(el("div", "films", ...films));
  made.classList.add(["bare", "one", "few", "few", "few"][films.length] ?? "many");
  const prompt = data.prompts[row[PROMPT]];
  made.append(head(row), prompt.length ? text(prompt, "prompt") : el("span"), sides(row), values(row));
  return made;
}

function film([name, uri, why], number, count) {
  const which = count > 1 ? `image ${number} of ${count}` : "image";
  if (!uri) return el("div", "no-film", `${which} ${why}: ${name}`);
  const made = el("img");
  made.src = uri;
  made.alt = `${which}: ${name}`;
  made.title = made.alt;
  return made;
}

function head(row) {
  const made = el("div", "top", el("h3", "", row[ID]));
  if (row[MATCH]) made.append(el("span", "badge hit", "✓ match"));
  else if (data.task === "vqa") made.append(el("span", "badge miss", "✗ no match"));
  return made;
}

function text(held, name, marked = null) {
  const made = el("p", `text ${name}`);
  if (!length(held)) made.append(el("span", "none", "(empty)"));
  else if (marked) made.append(...marked);
  else made.append(whole(held));
  if (typeof held !== "string")
    made.append(el("span", "cut", ` … cut here: ${held[1].toLocaleString("en")} characters in all`));
  return made;
}

function sides(row) {
  const pairs = byId("marks").checked ? row[REFERENCES].map((held) => differences(held, row[ANSWER])) : [];
  const kept = pairs.map((pair) => (pair ? pair.common : -1));
  const best = kept.indexOf(Math.max(...kept));
  const references = row[REFERENCES].map((held, i) =>
    text(held, "", i === best && pairs[i] ? marks(held, pairs[i].left, "absent") : null));
  const answer = text(row[ANSWER], "answer",
    pairs[best] ? marks(row[ANSWER], pairs[best].right, "added") : null);
  const several = references.length > 1 ? `references (${references.length})` : "reference";
  const short = [...row[REFERENCES], row[ANSWER]].every((held) => length(held) < SHORT);
  return el("div", short ? "sides short" : "sides", el("div", "", el("h4", "", several), ...references),
    el("div", "", el("h4", "", "prediction"), answer));
}

function values(row) {
  const made = el("div", "values");
  data.scores.forEach((name, s) => {
    const value = row[SCORES][s];
    made.append(el("span", "", `${name} `, el("b", "", value === null ? "not counted" : value.toFixed(3))));
  });
  if (!looked) for (const i of row[IMAGES]) made.append(el("span", "field", `image: ${images[i][0]}`));
  data.fields.forEach((name, f) => {
    const held = row[FIELDS][f];
    if (held === null) return;
    const cut = typeof held === "string" ? "" : ` … [${held[1].toLocaleString("en")} characters]`;
    made.append(el("span", "field", `${name}: ${whole(held)}${cut}`));
  });
  return made;
}

const bare = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");

// Which words of each side are in their longest common subsequence; null where it is too short for
// marks to help.
function differences(reference, answer) {
  const [a, b] = [words(reference).map(bare), words(answer).map(bare)];
  if (!a.length || !b.length || Math.max(a.length, b.length) > MOST_COMPARED) return null;
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  if (table[0][0] < ALIKE * Math.min(a.length, b.length)) return null;
  const [left, right] = [new Set(), new Set()];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) { left.add(i++); right.add(j++); }
    else if (table[i + 1][j] >= table[i][j + 1]) i++;
    else j++;
  }
  return { common: table[0][0], left, right };
}

// The text as nodes: runs of words outside of `common` marked, white space as it was.
function marks(held, common, name) {
  const runs = [];
  let n = -1;
  for (const part of whole(held).split(/(\s+)/)) {
    const blank = !part.trim();
    if (!blank) n += 1;
    const marked = !blank && !common.has(n) && bare(part) !== "";
    const last = runs.at(-1);
    if (last && blank) last.space += part;
    else if (last && last.marked === marked) { last.text += last.space + part; last.space = ""; }
    else runs.push({ marked, text: part, space: "" });
  }
  return runs.flatMap((run) => [run.marked ? el("mark", name, run.text) : run.text, run.space]);
}
