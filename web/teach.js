/** Teaching a sign: examples, what the server makes of them, and the signs that this browser keeps. */

import { compact, readClip } from "./clip.js";
import { EnrolledStore, advice } from "./enrolled.js";
import { $, allow, download, element, inWords, pressed, state, t, tell, untell } from "./page.js";

const NEEDED = 3;

/** Stands for the storage of browsers that have switched theirs off. */
const none = {
  getItem: () => null,
  setItem() {
    throw new Error("no storage");
  },
  removeItem() {},
};

export class Teach {
  #examples = [];
  #said = null;
  #store = null;

  /**
   * @param {object} page
   * @param {() => object} page.model
   * @param {(body: string) => Promise<?object>} page.ask asks the server; null where that failed, which was said then
   * @param {() => ?object} page.last the last clip
   * @param {() => void} page.record records an example
   * @param {(file: File) => boolean} page.fits tells whether the server takes a landmark file so long, or says why not
   * @param {(file: File) => Promise<boolean>} page.read reads a video
   * @param {() => void} page.changed called where the signs kept here are others
   */
  constructor(page) {
    this.page = page;
    pressed("teach-record", () => page.record());
    pressed("teach-add-last", () => this.add(page.last()));
    pressed("teach-file-button", () => $("teach-file").click());
    $("teach-file").addEventListener("change", (event) => this.#files([...event.target.files]));
    $("teach-name").addEventListener("input", () => this.say());
    pressed("teach-learn", () => this.#learn());
    pressed("teach-download", () => download(this.#store.text, "enrolled.json"));
    inWords(() => this.say());
  }

  /** What goes with questions, null where there is nothing. */
  get sent() {
    return this.page.model().enrolment ? (this.#store?.sent ?? null) : null;
  }

  get names() {
    return this.sent ? this.#store.names : [];
  }

  /** Take up the signs that were taught to the model of this name and version. */
  open({ name, version, enrolment }) {
    $("teach").hidden = !enrolment;
    let storage = none;
    try {
      storage = localStorage;
    } catch {
      // refused by the browser's settings
    }
    this.#store = enrolment ? new EnrolledStore(storage, name, version) : null;
    this.say();
  }

  /** The server said that the signs kept here belong to other weights. */
  refused() {
    this.#store.unusable = true;
    tell("warning", "enrolled_unusable");
    this.say();
    this.page.changed();
  }

  /** Take a clip as an example. */
  add(clip) {
    if (!clip) return;
    this.#examples.push({ body: compact(clip, this.page.model().layout), frames: clip.frames.length });
    this.say();
  }

  async #files(files) {
    $("teach-file").value = "";
    for (const file of files) {
      if (!/\.json$/i.test(file.name)) {
        if (!(await this.page.read(file))) return; // what was wrong was said
        continue;
      }
      if (!this.page.fits(file)) continue;
      const text = await file.text();
      const clip = readClip(text, this.page.model().layout);
      const body = clip ? null : parsed(text);
      if (clip) this.add(clip);
      else if (body) this.#examples.push({ body, frames: framesIn(body) });
      else tell("error", "bad_file", { name: file.name });
    }
    this.say();
  }

  async #learn() {
    const gloss = $("teach-name").value.trim();
    const clips = this.#examples.map((example) => example.body);
    const body = { enroll: gloss, clips, ...(this.sent ? { enrolled: this.sent } : {}) };
    untell();
    const answer = await this.page.ask(JSON.stringify(body));
    if (!answer) return;
    const { enrolled, agreement, nearest, similarity } = answer;
    const others = this.#store.unusable ? this.#store.names : [];
    this.#keep(() => this.#store.add(enrolled));
    untell("enrolled_unusable");
    if (others.length) tell("info", "enrolled_dropped", { glosses: others.join(", ") });
    tell("info", "learned", { gloss });
    this.#said = { gloss, nearest, keys: advice({ agreement, similarity }) };
    this.#examples = [];
    $("teach-name").value = "";
    this.say();
    this.page.changed();
    $("teach-name").focus();
  }

  #remove(gloss) {
    this.#keep(() => this.#store.remove(gloss));
    if (!this.#store.glosses.length) untell("enrolled_unusable");
    this.say();
    this.page.changed();
    ($("teach-list").querySelector("button") ?? $("teach-name")).focus();
  }

  /** Change what is kept; where the browser does not store it, that is said. */
  #keep(change) {
    try {
      change();
    } catch {
      tell("warning", "storage_full");
    }
  }

  /** Say all of it anew. */
  say() {
    const remove = (label, action) => {
      const button = element("button", { type: "button", className: "remove", text: t("teach.remove"), ariaLabel: label });
      button.addEventListener("click", action);
      return button;
    };
    $("teach-count").textContent = t("teach.examples", { n: this.#examples.length, needed: NEEDED });
    $("teach-examples").replaceChildren(
      ...this.#examples.map((example, i) => {
        const drop = () => {
          this.#examples.splice(i, 1);
          this.say();
          $("teach-record").focus();
        };
        const button = remove(t("teach.remove.example", { i: i + 1 }), drop);
        return element("li", {}, [element("span", { text: t("teach.example", { i: i + 1, n: example.frames }) }), button]);
      }),
    );
    const kept = this.#store?.glosses ?? [];
    $("teach-list").replaceChildren(
      ...kept.map(({ gloss, clips }) => {
        const words = [element("strong", { text: gloss }), element("span", { text: t("teach.clips", { n: clips }) })];
        const button = remove(t("teach.remove.gloss", { gloss }), () => this.#remove(gloss));
        return element("li", { dataset: { gloss } }, [...words, button]);
      }),
    );
    $("teach-none").hidden = kept.length > 0;
    $("teach-kept").hidden = !kept.length;
    $("teach-advice").replaceChildren(
      ...(this.#said?.keys ?? []).map((key) => element("p", { text: t(key, this.#said), dataset: { advice: key } })),
    );
    this.allow();
  }

  /** Say what is still needed, and let only that be done which can be done now. */
  allow() {
    const name = $("teach-name").value.trim();
    const more = NEEDED - this.#examples.length;
    const { glosses, enrolled } = this.page.model();
    const needs = [];
    if (glosses.includes(name) && !enrolled.includes(name)) needs.push(t("teach.known"));
    if (!name) needs.push(t("teach.need.name"));
    if (more > 0) needs.push(t("teach.need.clips", { n: more }));
    $("teach-need").textContent = needs.join(" ");
    const free = ["idle", "live"].includes(state());
    allow("teach-learn", needs.length === 0 && free);
    allow("teach-record", free);
    allow("teach-file-button", free);
    allow("teach-add-last", free && Boolean(this.page.last()));
  }
}

/** A JSON object, null where the text is none. */
function parsed(text) {
  try {
    const body = JSON.parse(text);
    return body && typeof body === "object" && !Array.isArray(body) ? body : null;
  } catch {
    return null;
  }
}

/** How many frames a body of another form has, as far as its lists tell. */
function framesIn(body) {
  return Math.max(0, ...Object.values(body).map((value) => (Array.isArray(value) ? value.length : 0)));
}
