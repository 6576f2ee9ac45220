// Thumbs, stars and a correction under an answer. The token is for one answer: no key is needed.
//   <div data-kamerton="COMPLETION ID" data-token="TOKEN" data-ask="thumbs stars correction"></div>
//   <script src="https://SERVER/feedback.js" defer></script>
// For answers that come later: kamertonFeedback(element).
(() => {
  const server = new URL(document.currentScript.src).origin;
  const words = {
    en: ["Good answer", "Bad answer", "stars", "Correct it", "Send", "Thank you", "Not sent, try again"],
    ru: ["Хорошо", "Плохо", "звёзд", "Исправить", "Отправить", "Спасибо", "Не вышло, повторите"],
  }[(document.documentElement.lang || navigator.language).startsWith("ru") ? "ru" : "en"];
  const make = (name, text, label) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (name == "button") made.type = name;
    if (label) made.title = label, made.setAttribute("aria-label", label);
    return made;
  };
  window.kamertonFeedback = (place) => {
    const data = place.dataset, ask = (data.ask || "thumbs").split(" ");
    if (data.ready) return;
    data.ready = 1;
    const said = make("span", "");
    said.setAttribute("role", "status");
    const send = async (body, button) => {
      const ok = await fetch(server + "/v1/feedback", {
        method: "POST",
        headers: { "content-type": "application/json", "x-kamerton-feedback-token": data.token },
        body: JSON.stringify({ id: data.kamerton, ...body }),
      }).then((answer) => answer.ok, () => false);
      said.textContent = words[ok ? 5 : 6];
      if (ok && button) for (const one of button.parentNode.children) one.setAttribute("aria-pressed", one == button);
    };
    const row = (buttons) => {
      const group = make("span", "");
      for (const [text, label, name, value] of buttons) {
        const button = make("button", text, label);
        button.onclick = () => send({ name, value }, button);
        group.append(button);
      }
      place.append(group);
    };
    if (ask.includes("thumbs")) row([["👍", words[0], "thumbs", true], ["👎", words[1], "thumbs", false]]);
    if (ask.includes("stars")) row([1, 2, 3, 4, 5].map((n) => ["★".repeat(n), n + " " + words[2], "rating", n]));
    if (ask.includes("correction")) {
      const open = make("button", "✎", words[3]), text = make("textarea", "", words[3]), done = make("button", words[4]);
      text.hidden = done.hidden = true;
      open.onclick = () => { text.hidden = done.hidden = !text.hidden; };
      done.onclick = () => text.value.trim() && send({ correction: text.value });
      place.append(open, text, done);
    }
    place.append(said);
  };
  const all = () => document.querySelectorAll("[data-kamerton]").forEach(kamertonFeedback);
  document.readyState == "loading" ? document.addEventListener("DOMContentLoaded", all) : all();
})();
