// The list that scrolls, the sample that is shown, and corrections. What a server sends is parsed, never run.
"use strict";

const ROW = 60, AHEAD = 1;
const body = document.body, wish = document.getElementById("wish"), rows = document.getElementById("rows");
const scroller = document.getElementById("scroll"), article = document.getElementById("sample");
const block = Number(body.dataset.block);
const blocks = new Map();
let total = Number(body.dataset.total), shown = body.dataset.shown, asked = 0, selected = 0;
let looking = localStorage.getItem("looks") !== "off";

const parsed = (html) => [...new DOMParser().parseFromString(html, "text/html").body.childNodes];
const show = (element, html) => element.replaceChildren(...parsed(html));

function complain(text) {
  const trouble = document.getElementById("trouble");
  trouble.textContent = text;
  trouble.hidden = !text;
}

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}

const told = (work) => work.catch((error) => complain(error instanceof TypeError ? "relope view has ended." : error.message));

function wanted(more = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(wish))
    if (value && !(name === "low" && value === "0") && !(name === "high" && value === "100")) query.set(name, value);
  if (query.get("sort") === "store") query.delete("sort");
  for (const [name, value] of Object.entries(more)) query.set(name, value);
  return query;
}

// The list: blocks of rows, each at its place; those out of sight are dropped.

function place(start, nodes) {
  const made = document.createElement("div");
  made.className = "block";
  made.style.top = `${start * ROW}px`;
  made.replaceChildren(...nodes);
  blocks.get(start)?.remove();
  blocks.set(start, made);
  rows.append(made);
  mark();
}

function mark() {
  for (const row of rows.querySelectorAll(".row")) row.classList.toggle("chosen", row.dataset.id === shown);
}

async function fill() {
  const first = Math.floor(scroller.scrollTop / ROW / block) - AHEAD;
  const last = Math.floor((scroller.scrollTop + scroller.clientHeight) / ROW / block) + AHEAD;
  for (const [start, made] of blocks) {
    if (start < (first - 2) * block || start > (last + 2) * block) {
      made?.remove();
      blocks.delete(start);
    }
  }
  const mine = asked, missing = [];
  for (let at = Math.max(0, first); at <= last && at * block < total; at++)
    if (!blocks.has(at * block)) missing.push(at * block);
  await Promise.all(missing.map(async (start) => {
    blocks.set(start, null);
    const found = await (await get(`/list?${wanted({start})}`)).json();
    if (mine === asked && blocks.has(start)) place(start, parsed(found.rows));
  }));
}

async function refresh() {
  const mine = ++asked;
  const found = await (await get(`/list?${wanted()}`)).json();
  if (mine !== asked) return;
  complain("");
  total = found.total;
  rows.replaceChildren();
  blocks.clear();
  rows.style.height = `${total * ROW}px`;
  show(document.getElementById("summary"), found.summary);
  place(0, parsed(found.rows));
  scroller.scrollTop = 0;
  if (shown === "" && found.first !== null) shown = found.first;
  if (shown !== "") await select(shown, {keep: true});
  await fill();
}

// The sample.

async function select(id, {keep = false} = {}) {
  const mine = ++selected;
  const html = await (await get(`/sample?${wanted({sample: id})}`)).text();
  if (mine !== selected) return;
  shown = id;
  history.replaceState(null, "", `/?${wanted({sample: id})}`);
  show(article, html);
  if (!keep) article.scrollTop = 0;
  mark();
  dress();
}

// What takes a while, the image of the data set and where a router looks, waits until nobody steps on.
function dress() {
  const box = article.querySelector("[data-does=looks]");
  if (box) box.checked = looking;
  setTimeout((id) => {
    if (id !== shown) return;
    for (const image of article.querySelectorAll(".over")) {
      image.addEventListener("load", () => {
        image.parentNode.classList.add("loaded");
        image.parentNode.classList.toggle("little", Math.max(image.naturalWidth, image.naturalHeight) < 100);
      }, {once: true});
      image.src = image.dataset.src;
    }
    if (box && looking) void told(look(id));
  }, 150, shown);
}

async function look(id) {
  if (id !== shown || !looking) return;
  const place = article.querySelector("#looks");
  const html = await (await get(`/looks?${new URLSearchParams({sample: id})}`)).text();
  if (id !== shown || !looking || place !== article.querySelector("#looks")) return;
  show(place, html);
  const figures = article.querySelectorAll(".pictures figure");
  place.querySelectorAll("svg.weights, .weights-unplaced").forEach((grid, number) => {
    if (grid.matches("svg") && figures[number]) figures[number].append(grid);
  });
}

let walk = Promise.resolve();

function step(by) {
  walk = walk.then(() => told(stepped(by)));  // a key that is pressed twice is two samples further
  return walk;
}

async function stepped(by) {
  const place = article.querySelector(".of")?.dataset.at;
  const next = place ? article.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]") : rows.querySelector("[data-at='0']");
  if (!next) return;
  const at = place ? Number(place) + by : 0;  // a sample that is not listed is before the first that is
  await select(next.dataset.id);
  reveal(at);
}

function reveal(at) {
  const top = at * ROW;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top + ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW - scroller.clientHeight;
}

async function grade(side, correct) {
  const answer = await fetch("/grade", {
    method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({side, sample: shown, correct}),
  });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  const at = Number(article.querySelector(".of").dataset.at || 0), start = Math.floor(at / block) * block;
  await select(shown, {keep: true});
  const found = await (await get(`/list?${wanted({start})}`)).json();
  show(document.getElementById("summary"), found.summary);
  if (found.total === total && blocks.get(start)) place(start, parsed(found.rows));
}

// What people do.

const deeds = {
  help: () => document.getElementById("help").showModal(),
  filters: () => wish.classList.toggle("open"),
  back: () => { body.classList.remove("reading"); void told(fill()); },
  enlarge: () => article.querySelector(".pictures").classList.toggle("large"),
  grade: (button) => told(grade(button.closest(".card").dataset.side, JSON.parse(button.dataset.said))),
  looks: (box) => {
    looking = box.checked;
    localStorage.setItem("looks", looking ? "on" : "off");
    if (looking) void told(look(shown));
    else for (const made of article.querySelectorAll(".weights, .spoken")) made.remove();
  },
};

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-id]");
  if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
    event.preventDefault();
    body.classList.add("reading");
    void told(select(link.dataset.id).then(() => reveal(Number(article.querySelector(".of").dataset.at || 0))));
    return;
  }
  const does = event.target.closest("[data-does]");
  if (does) deeds[does.dataset.does](does);
});

const keys = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
  r: () => grade("small", true), w: () => grade("small", false), x: () => grade("small", null),
  a: async () => article.querySelector("[data-does=looks]")?.click(),
  "/": async () => wish.elements.words.focus(), "?": async () => deeds.help(),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement.blur();
  const typing = event.target.matches("input:not([type=checkbox]), select, dialog, dialog *");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  void told(keys[event.key]());
});

let waiting = 0;
wish.addEventListener("input", (event) => {
  if (event.target.name === "budget") wish.querySelector("output").textContent = `${event.target.value} %`;
  clearTimeout(waiting);
  waiting = setTimeout(() => told(refresh()), 120);
});
wish.addEventListener("submit", (event) => event.preventDefault());
let scrolling = 0;
scroller.addEventListener("scroll", () => {
  clearTimeout(scrolling);
  scrolling = setTimeout(() => told(fill()), 30);
}, {passive: true});

const first = [...rows.childNodes];
rows.style.height = `${total * ROW}px`;
place(0, first);
dress();
const at = article.querySelector(".of")?.dataset.at;
if (at) reveal(Number(at));
void told(fill());
