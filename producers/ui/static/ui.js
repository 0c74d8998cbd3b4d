// Keeps the page current: the server sends its content again when it has changed.
"use strict";

const main = document.querySelector("main");
const trouble = document.getElementById("trouble");

// Change only what differs, so that focus, selection and a screen reader's place stay.
function update(shown, next) {
  if (shown.nodeType !== next.nodeType || shown.nodeName !== next.nodeName) {
    shown.replaceWith(document.importNode(next, true));
    return;
  }
  if (shown.nodeType !== Node.ELEMENT_NODE) {
    if (shown.nodeValue !== next.nodeValue) shown.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...shown.attributes]) {
    if (!next.hasAttribute(name)) shown.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  updateChildren(shown, next);
}

const keyOf = (node) => node.dataset?.key;

// Elements with a key (rows, sections) are the same wherever they stand; others are the same by position.
function updateChildren(shown, next) {
  let at = shown.firstChild;
  for (const child of next.childNodes) {
    let same = at;
    while (keyOf(child) && same && keyOf(same) !== keyOf(child)) same = same.nextSibling;
    if (!same || keyOf(same) !== keyOf(child)) {
      shown.insertBefore(document.importNode(child, true), at);
      continue;
    }
    while (at !== same) at = removed(at);
    at = same.nextSibling;
    update(same, child);
  }
  while (at) at = removed(at);
}

function removed(node) {
  const following = node.nextSibling;
  node.remove();
  return following;
}

if (document.body.dataset.events) {
  const source = new EventSource(document.body.dataset.events);
  source.addEventListener("content", (event) => {
    trouble.textContent = "";
    updateChildren(main, new DOMParser().parseFromString(event.data, "text/html").body);
    document.title = `${main.querySelector("h1").textContent} - votequeue`;
  });
  source.addEventListener("trouble", (event) => {
    trouble.textContent = event.data;
  });
  source.addEventListener("error", () => {
    trouble.textContent = `no connection since ${new Date().toLocaleTimeString()}`;
  });
}
