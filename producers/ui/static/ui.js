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

function updateChildren(shown, next) {
  const before = [...shown.childNodes];
  const after = [...next.childNodes];
  after.forEach((child, at) => {
    if (at < before.length) update(before[at], child);
    else shown.append(document.importNode(child, true));
  });
  before.slice(after.length).forEach((child) => child.remove());
}

if (document.body.dataset.events) {
  const source = new EventSource(document.body.dataset.events);
  source.addEventListener("content", (event) => {
    trouble.textContent = "";
    updateChildren(main, new DOMParser().parseFromString(event.data, "text/html").body);
  });
  source.addEventListener("trouble", (event) => {
    trouble.textContent = event.data;
  });
  source.addEventListener("error", () => {
    trouble.textContent = `no connection since ${new Date().toLocaleTimeString()}`;
  });
}
