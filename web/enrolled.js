/**
 * Signs that a person taught: kept in this browser, for one model, in the form of a model folder's enrolled.json. No DOM.
 *
 * The server keeps nothing: it makes a prototype from the examples, and the page sends the prototypes with each question.
 * Prototypes mean something in the space of one model's weights only.
 */

const PREFIX = "spoter.fewshot.enrolled:";

export class EnrolledStore {
  /**
   * @param {Storage} storage localStorage or something like it
   * @param {string} name of the model
   * @param {string} version of the model
   */
  constructor(storage, name, version) {
    this.storage = storage;
    this.key = `${PREFIX}${JSON.stringify([name, version])}`;
    this.file = this.#read();
    this.unusable = false; // the server said that they belong to other weights
  }

  get glosses() {
    return this.file?.glosses ?? [];
  }

  get names() {
    return this.glosses.map((one) => one.gloss);
  }

  /** What goes with a question, null where there is nothing. */
  get sent() {
    return this.glosses.length && !this.unusable ? this.file : null;
  }

  /**
   * Keep a gloss that the server made. One of the same name gives way, and so do all of another space.
   *
   * @param {{space: string, glosses: Array}} made
   */
  add(made) {
    const others = this.file && this.file.space !== made.space;
    const names = made.glosses.map((one) => one.gloss);
    const kept = others ? [] : this.glosses.filter((one) => !names.includes(one.gloss));
    this.unusable = false;
    this.#write({ space: made.space, glosses: [...kept, ...made.glosses] });
  }

  remove(gloss) {
    const rest = this.glosses.filter((one) => one.gloss !== gloss);
    if (rest.length) this.#write({ ...this.file, glosses: rest });
    else this.clear();
  }

  clear() {
    this.file = null;
    this.unusable = false;
    this.storage.removeItem(this.key);
  }

  /** The text of enrolled.json. */
  get text() {
    return `${JSON.stringify(this.file)}\n`;
  }

  #write(file) {
    this.file = file; // usable until the page is closed even where it cannot be stored
    this.storage.setItem(this.key, JSON.stringify(file));
  }

  #read() {
    try {
      const file = JSON.parse(this.storage.getItem(this.key));
      const good = (one) => typeof one?.gloss === "string" && Array.isArray(one.prototype);
      return typeof file?.space === "string" && Array.isArray(file.glosses) && file.glosses.every(good) ? file : null;
    } catch {
      return null;
    }
  }
}

/**
 * Advice on a new sign, in words.
 *
 * `agreement` is the least cosine between two examples, around 0 for different signs; `similarity` the cosine to the
 * nearest gloss that was there. The bounds are wide on purpose: it is advice, and the sign is kept either way.
 *
 * @returns {string[]} keys of strings
 */
export function advice({ agreement, similarity }) {
  const examples = agreement < 0.35 ? "teach.differ" : agreement < 0.6 ? "teach.vary" : "teach.agree";
  return similarity > 0.6 ? [examples, "teach.alike"] : [examples, "teach.apart"];
}
