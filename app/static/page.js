// The page: makes links, shows new ones as they come, and removes those made in this browser.
"use strict";

const list = document.getElementById("latest");
const answer = document.getElementById("answer");
const dot = document.getElementById("dot");
const shown = 10;

// Tokens of the links made here, by slug. Only they can remove a link.
const mine = {
  all: () => JSON.parse(localStorage.getItem("mine") || "{}"),
  change(change) {
    const all = this.all();
    change(all);
    localStorage.setItem("mine", JSON.stringify(all));
  },
};

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function show(link) {
  if (document.getElementById("link-" + link.slug)) return;
  list.querySelector(".empty")?.remove();
  const item = element("li", "");
  item.id = "link-" + link.slug;
  const to = element("a", "/" + link.slug);
  to.href = "/" + link.slug;
  item.append(to, element("span", link.url, "url"), element("span", link.hits + " hits", "hits"));
  list.prepend(item);
  offerRemoval(item);
  while (list.children.length > shown) list.lastElementChild.remove();
}

function offerRemoval(item) {
  const slug = item.id.slice("link-".length);
  const token = mine.all()[slug];
  if (!token) return;
  const button = element("button", "×", "remove");
  button.title = "Remove this link";
  button.setAttribute("aria-label", "Remove /" + slug);
  button.addEventListener("click", async () => {
    const response = await fetch("/links/" + slug, { method: "DELETE", headers: { Authorization: "Bearer " + token } });
    if (!response.ok) return say("Not removed (" + response.status + "). Try again.");
    mine.change(all => delete all[slug]);
    item.remove();
  });
  item.append(button);
}

function say(problem) {
  answer.className = "bad";
  answer.textContent = problem;
}

async function create(url) {
  const response = await fetch("/links", {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-"),
    },
    body: JSON.stringify({ url }),
  });
  if (response.status === 422) throw new Error("That is not an address.");
  if (!response.ok) throw new Error("Not created (" + response.status + "). Try again.");
  return response.json();
}

document.getElementById("create").addEventListener("submit", async event => {
  event.preventDefault();
  answer.className = "";
  answer.textContent = "…";
  try {
    const link = await create(document.getElementById("url").value);
    mine.change(all => { all[link.slug] = link.token; });
    const to = element("a", location.host + "/" + link.slug);
    to.href = "/" + link.slug;
    answer.replaceChildren(to);
    show(link);
    event.target.reset();
  } catch (error) {
    say(error instanceof TypeError ? "No answer. Try again." : error.message);
  }
});

function listen() {
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/live");
  socket.onopen = () => dot.classList.add("on");
  socket.onmessage = message => show(JSON.parse(message.data));
  socket.onclose = () => { dot.classList.remove("on"); setTimeout(listen, 1000); };
}

for (const item of list.querySelectorAll("li[id]")) offerRemoval(item);
listen();
