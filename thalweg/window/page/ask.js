// The door, and nothing else: every figure on the page comes from /v1, by these calls.

const KEY = "thalweg-key", SILENT_MS = 40000;
export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (secret) => (secret ? sessionStorage.setItem(KEY, secret) : sessionStorage.removeItem(KEY)),
};

export class Wrong extends Error {
  constructor(status, words) { super(words); this.status = status; }
}

export async function ask(path, { signal, method = "GET", body } = {}) {
  const headers = { Accept: "application/json", ...authorised() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { signal, method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Wrong(0, "The window does not answer. Is it still running? thalweg ps");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Wrong(answer.status, found.error || `answer ${answer.status}`);
  return found;
}

// What takes long is answered with how far it is, and asked for again until it is there.
export async function made(send, say, isWanted = () => true) {
  for (;;) {
    const found = await send();
    if (!found.working || !isWanted()) return found;
    say(found.working.replace("; ask the same again", ""));
    await new Promise((done) => setTimeout(done, 1000));
  }
}

// Until the tab is looked at.
export function seen() { return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })); }

function authorised() {
  const secret = key.get();
  if (/[^ -~]/.test(secret)) throw new Wrong(401, "this key is none of window.keys: those are of letters, digits and signs without accents");
  return secret ? { Authorization: `Bearer ${secret}` } : {};
}

// Events by fetch, not EventSource: that sends no key. Whoever was cut off goes on behind the last event seen.
// A tab that nobody sees listens to nothing: browsers give one address six connections, for all its tabs together.
export class Events {
  constructor(hear, tell) {
    this.hear = hear; this.tell = tell; this.last = null; this.pause = 500;
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.again(); });
    this.run();
  }

  async run() {
    for (;;) {
      if (document.hidden) await seen();
      this.stopper = new AbortController();
      this.heard();
      try { await this.follow(); this.tell("away"); } catch (error) { this.tell(error.status === 401 ? "key" : "away"); }
      clearTimeout(this.patience);
      await new Promise((done) => setTimeout(done, this.pause));
      this.pause = Math.min(this.pause * 2, 10000);
    }
  }

  // The window says something every 15 s: a connection that is silent for longer is none, whatever it seems to be.
  heard() { clearTimeout(this.patience); this.patience = setTimeout(() => this.stopper.abort(), SILENT_MS); }

  again() { this.pause = 100; this.stopper?.abort(); }

  async follow() {
    const headers = { Accept: "text/event-stream", ...authorised() };
    if (this.last) headers["Last-Event-ID"] = this.last;
    const answer = await fetch("/v1/events", { headers, signal: this.stopper.signal, cache: "no-store" });
    if (!answer.ok) throw new Wrong(answer.status, "");
    this.pause = 500;
    this.tell("live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.heard();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      const changes = [];
      for (const part of parts) {
        let kind = "", data = "", id = null;
        for (const line of part.split("\n")) {
          if (line.startsWith("id: ")) id = line.slice(4);
          else if (line.startsWith("event: ")) kind = line.slice(7);
          else if (line.startsWith("data: ")) data = line.slice(6);
        }
        if (id) this.last = id;
        if (kind === "change") changes.push(JSON.parse(data));
        else if (kind === "anew") this.tell("live"); // another ledger: what is shown is asked for again
      }
      if (changes.length) this.hear(changes);
    }
  }
}
