import { Told } from "./told.js";

const RECENT = 10; // frames over which frames per second are counted

/**
 * Show the frames of a source one after the other, and follow what is painted.
 *
 * show(number, picture, {playing}): draws a frame. changed(): is told when playing, position or
 * figures change. failed(error): is told what a person must know.
 */
export class Player {
  constructor(engine, source, project, { place, mean, show, changed, failed }) {
    Object.assign(this, { engine, source, project, place, show, changed, failed });
    this.position = 0;
    this.playing = false;
    this.busy = false;
    this.figures = null; // of the latest frame: ms, frames, most, bytes
    this.shown = []; // times of the latest frames, ms
    this._next = null; // the frame that the worker expects
    this._turn = 0; // of the latest wish of the person
    this._work = Promise.resolve();
    this._canvas = Object.assign(document.createElement("canvas"), place.frame);
    this._context = this._canvas.getContext("2d", { willReadFrequently: true });
    this._context.imageSmoothingQuality = "high";
    this._mean = `rgb(${mean.map((x) => Math.round(255 * x)).join(" ")})`;
  }

  /** The last frame that can be shown without waiting for the camera. */
  get last() {
    return (this.source.live ? this.source.stored : this.source.count) - 1;
  }

  /** Frames per second that were shown of late, or null. */
  get rate() {
    const times = this.shown;
    if (times.length < 2) return null;
    return (1000 * (times.length - 1)) / (times[times.length - 1] - times[0]);
  }

  /** Show a frame as it is, with its masks where they are known. */
  go(number) {
    this.pause();
    return this._wish((turn) => this._draw(number, turn));
  }

  /** Follow the objects one frame further and show it. */
  forward() {
    this.pause();
    return this._wish((turn) => this._advance(turn));
  }

  /** Stop; a frame that is being computed is kept and not shown. */
  pause() {
    this._turn += 1;
    if (this.playing) {
      this.playing = false;
      this.changed();
    }
  }

  /** Play until the end, a pause or an error. */
  play() {
    this.pause();
    return this._wish(async (turn) => {
      this.playing = true;
      this.shown = [];
      this.changed();
      if (this.position >= this.source.count - 1) await this._draw(0, turn);
      await this._follow(this.position, turn);
      if (turn === this._turn) await this._draw(this.position, turn);
      while (turn === this._turn && this.position < this.source.count - 1) {
        const due = performance.now() + 1000 / this.source.rate;
        await this._advance(turn);
        const wait = Math.max(0, due - performance.now());
        const fresh = this.source.live && this.position === this.last;
        if (!fresh) await new Promise((done) => setTimeout(done, wait));
      }
      if (turn === this._turn) this.playing = false;
    });
  }

  /** Compute the masks of all frames up to `number`. */
  complete(number) {
    this.pause();
    return this._wish((turn) => this._follow(number, turn));
  }

  /** Do something else with the source, such as recording it, when it is free. */
  run(work) {
    this.pause();
    return this._wish(work);
  }

  /** Forget the masks that depend on frame `number`, as another is given there. */
  cut(number) {
    this.pause();
    if (this._next !== null && this._next > number) this._next = null;
    this.engine.call("cut", { number }).catch(this.failed);
  }

  /** Do what a person wishes after what is being done; say whether it was done to its end. */
  _wish(work) {
    this._turn += 1;
    const turn = this._turn;
    const doing = this._work.then(async () => {
      if (turn !== this._turn) return false;
      this.busy = true;
      try {
        await work(turn);
        return turn === this._turn;
      } catch (error) {
        this.playing = false;
        this.failed(error);
        return false;
      } finally {
        this.busy = false;
        this.changed();
      }
    });
    this._work = doing;
    return doing;
  }

  async _advance(turn) {
    const number = this.position + 1;
    if (number >= this.source.count) return;
    await this._follow(number, turn);
    await this._draw(number, turn);
  }

  async _draw(number, turn) {
    const picture = await this.source.frame(number);
    if (turn === this._turn) this.show(number, picture);
    picture.close?.(); // of a bitmap; a video has none
    if (turn !== this._turn) return;
    this.position = number;
    this.shown = [...this.shown.slice(1 - RECENT), performance.now()];
    this.changed();
  }

  async _follow(number, turn) {
    const { project } = this;
    const { first } = project;
    if (first === null) {
      throw new Told(
        "No object is painted yet: paint one with the brush or draw a box around it, then play.",
      );
    }
    while (project.length <= number && turn === this._turn) {
      if (project.length < first) {
        project.push(new Uint8Array(project.pixels));
        continue;
      }
      const wanted = project.length;
      if (this._next !== wanted) {
        this._next = (await this.engine.call("rewind", { number: wanted })) ?? first;
      }
      while (this._next <= wanted && turn === this._turn) await this._step(this._next, turn);
    }
  }

  async _step(number, turn) {
    const { project } = this;
    const { version } = project;
    const picture = await this.source.frame(number);
    if (turn !== this._turn) return; // the worker may have another video by now
    const { frame, left, top, width, height } = this.place;
    this._context.fillStyle = this._mean;
    this._context.fillRect(0, 0, frame.width, frame.height);
    this._context.drawImage(picture, left, top, width, height);
    picture.close?.();
    const rgba = this._context.getImageData(0, 0, frame.width, frame.height).data;
    const given = project.given(number);
    const mask = given?.ids.some((id) => id) ? given.ids : null;
    this._next = null; // until the worker has answered
    const { ids, ...figures } = await this.engine.call(
      "step",
      { number, rgba, mask, gone: given?.gone ?? [] },
      [rgba.buffer],
    );
    if (version !== project.version) return; // another mask was given meanwhile
    this._next = number + 1;
    this.figures = figures;
    if (number === project.length) project.push(ids);
  }
}
