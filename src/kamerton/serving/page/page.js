"use strict";
// Names and answers become text nodes only; the key stays in this variable.
let key = "", stopping = null;
const at = (id) => document.getElementById(id), histories = [[], []];
const russian = navigator.language.startsWith("ru");
const words = Object.fromEntries(Object.entries({
  served: ["What is served", "Что отвечает"], model: ["model", "модель"], kind: ["kind", "вид"],
  memory: ["memory", "память"], artefact: ["artefact", "артефакт"], chat: ["Try it", "Попробовать"],
  first: ["Variant", "Вариант"], second: ["Beside it", "Рядом"], none: ["none", "никого"],
  anew: ["New chat", "Новый разговор"], message: ["Message", "Сообщение"],
  send: ["Send", "Отправить"], stop: ["Stop", "Остановить"], you: ["You", "Вы"],
  sendNote: ["Enter sends, Shift+Enter breaks the line, Esc stops",
    "Enter отправляет, Shift+Enter переносит строку, Esc останавливает"],
  call: ["Call it from a program", "Вызвать из программы"],
  key: ["A key is needed", "Нужен ключ"], enter: ["Continue", "Продолжить"],
  keyNote: ["It is kept until this page is closed, and nowhere else.",
    "Он хранится, пока открыта эта страница, и больше нигде."],
  loading: ["The base is loading …", "Модель загружается …"],
  running: ["One base and its variants. Other programs reach them as OpenAI's API at",
    "Одна модель и её варианты. Программы обращаются к ним через API OpenAI:"],
  stopped: ["stopped", "остановлено"], length: ["cut at the limit of tokens", "достигнут предел токенов"],
  tokens: ["tokens", "токенов"], seconds: ["s", "с"], unreached: ["The server does not answer.",
    "Сервер не отвечает."],
}).map(([name, [english, other]]) => [name, russian ? other : english]));

function element(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind;
  return made;
}

function call(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  return fetch(path, { ...options, headers });
}

async function messageOf(answer) {
  const body = await answer.json().catch(() => null);
  return body?.error?.message ?? `${answer.status} ${answer.statusText}`;
}

async function open() {
  const answer = await call("v1/models").catch(() => null);
  const isLocked = answer?.status === 401 || answer?.status === 403;
  const isLoading = answer?.status === 503;
  at("enter").hidden = !isLocked;
  at("state").classList.toggle("wrong", !answer || (isLocked && key !== ""));
  if (answer?.ok) return show((await answer.json()).data);
  if (isLocked) at("key").focus();
  at("state").textContent = isLoading ? words.loading : !answer ? words.unreached
    : isLocked && !key ? "" : await messageOf(answer);
  if (isLoading || !answer) setTimeout(open, 2000);
}

function show(models) {
  const address = new URL("v1", location.href).href;
  at("state").replaceChildren(`${words.running} `, element("code", address));
  at("served").hidden = false;
  at("models").replaceChildren(...models.map((model) => {
    const row = element("tr"), name = element("td");
    name.append(element("code", model.id));
    const size = model.bytes ? `${(model.bytes / 2 ** 20).toFixed(1)} MiB` : "–";
    const artefact = element("td");
    artefact.append(element("code", model.artefact.slice(0, 12)));
    row.append(name, element("td", model.kind), element("td", size, "number"), artefact);
    return row;
  }));
  const options = () => models.map((model) => new Option(model.id, model.id));
  at("first").replaceChildren(...options());
  at("second").replaceChildren(new Option(words.none, ""), ...options());
  showCalls();
}

function showCalls() {
  const address = new URL("v1", location.href).href, model = at("first").value;
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] });
  const header = key ? ' -H "Authorization: Bearer $KAMERTON_API_KEY"' : "";
  at("curl").textContent = `curl ${address}/chat/completions${header} \\
  -H 'Content-Type: application/json' \\
  -d '${body.replaceAll("'", "'\\''")}'`;
  at("python").textContent = `${key ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${address}", api_key=${key ? 'os.environ["KAMERTON_API_KEY"]' : '"none"'})
answer = client.chat.completions.create(
    model=${JSON.stringify(model)}, messages=[{"role": "user", "content": "Hello"}]
)
print(answer.choices[0].message.content)`;
}

async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      if (event.startsWith("data: {")) yield JSON.parse(event.slice(6));
    }
  }
}

async function reply(side, model, signal) {
  const log = at("logs").children[side], history = histories[side], turn = element("div", "", "turn");
  const thought = element("span", "", "thought"), text = element("span"), note = element("span", "", "note");
  turn.append(element("b", model), thought, text, note);
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  const began = performance.now(), end = (words) => { note.textContent = `${text.textContent ? "\n" : ""}${words}`; };
  let finish = "", tokens = 0;
  try {
    const body = { model, messages: history, stream: true, stream_options: { include_usage: true } };
    const answer = await call("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    if (!answer.ok) throw new Error(await messageOf(answer));
    for await (const chunk of eventsOf(answer)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const choice = chunk.choices[0], isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      thought.append(choice?.delta.reasoning_content ?? "");
      text.append(choice?.delta.content ?? "");
      finish = choice?.finish_reason ?? finish;
      tokens = chunk.usage?.completion_tokens ?? tokens;
      if (isAtEnd) log.scrollTop = log.scrollHeight;
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    end(`${tokens} ${words.tokens}, ${seconds} ${words.seconds}${finish === "length" ? `, ${words.length}` : ""}`);
  } catch (error) {
    note.classList.toggle("wrong", !signal.aborted);
    end(signal.aborted ? words.stopped : error.message);
  }
  if (text.textContent) history.push({ role: "assistant", content: text.textContent });
  else history.pop();
  log.scrollTop = log.scrollHeight;
}

async function ask() {
  const content = at("message").value.trim();
  if (!content || stopping) return;
  stopping = new AbortController();
  at("message").value = "";
  at("send").disabled = at("anew").disabled = !(at("stop").disabled = false);
  const sides = [at("first").value, at("second").value].map((model, side) => {
    if (!model) return null;
    const turn = element("div", "", "turn");
    turn.append(element("b", words.you), content);
    at("logs").children[side].append(turn);
    histories[side].push({ role: "user", content });
    return reply(side, model, stopping.signal);
  });
  await Promise.all(sides);
  stopping = null;
  at("send").disabled = at("anew").disabled = !(at("stop").disabled = true);
  at("message").focus();
}

document.documentElement.lang = russian ? "ru" : "en";
for (const each of document.querySelectorAll("[data-text]")) each.textContent = words[each.dataset.text];
at("enter").onsubmit = (event) => { event.preventDefault(); key = at("key").value.trim(); at("key").value = ""; open(); };
at("ask").onsubmit = (event) => { event.preventDefault(); ask(); };
at("stop").onclick = () => stopping?.abort();
at("first").onchange = showCalls;
at("second").onchange = () => { at("logs").children[1].hidden = !at("second").value; };
at("anew").onclick = () => histories.forEach((history, side) => { history.length = 0; at("logs").children[side].replaceChildren(); });
document.onkeydown = (event) => {
  if (event.key === "Escape") stopping?.abort();
  const isEnter = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (isEnter && event.target === at("message")) { event.preventDefault(); ask(); }
};
open();
