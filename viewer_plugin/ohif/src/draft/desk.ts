// A session in the browser: what it shows, and everything that changes it, one after the other.
import { asProblem, Problem, UNREACHABLE } from '../server/problem';
import type { Client } from '../server/client';
import { countOf, encodeEdit, type Frame, type Triple } from '../server/frame';
import type { DraftedView, HelperForm, JobView, LabelView, PromptForm, SegmentChangeForm, SegmentForm, SegmentView, SessionView } from '../server/types';
import { Connection } from './connection';
import { DraftCopy, type Shown } from './copy';

/** What shows the draft: the viewer. */
export interface Surface extends Shown {
  redraw(slices: number[]): void;
  segments(segments: SegmentView[], locked: number[]): void;
}

export interface DeskState {
  session: SessionView;
  revision: number;
  segments: SegmentView[];
  locked: number[];
  canUndo: boolean;
  canRedo: boolean;
  /** What is being done, as a word for a person; empty when nothing is. */
  doing: string;
  /** When that began (ms). */
  since: number;
  hasUnsent: boolean;
  isReachable: boolean;
  notes: string[];
  problem: Problem | null;
  /** What a model made of the case, before it was corrected; null where none did. */
  drafted: DraftedView | null;
  counts: Map<number, number>;
}

const EDIT_PAUSE_MS = 400;
const LEARN_PAUSE_MS = 300;
const MOST_TRIES = 5;
/** The viewer keeps a voxel's segment in a byte. */
export const LARGEST_INDEX = 255;

export class Desk {
  private readonly listeners = new Set<() => void>();
  private queue: Promise<unknown> = Promise.resolve();
  private editTimer: ReturnType<typeof setTimeout> | undefined;
  private learnTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly connection = new Connection(() => this.retry());
  private made: { prediction: string; copy: DraftCopy } | null = null;
  private isOver = false;
  private isHeld = false;
  private surface: Surface | null = null;
  /** What the server has of the draft. */
  readonly copy: DraftCopy;
  state: DeskState;

  constructor(private readonly client: Client, session: SessionView) {
    const tooLarge = session.segments.find(segment => segment.index > LARGEST_INDEX);
    if (tooLarge) throw new Problem(-1, 'viewer', `${tooLarge.name} has index ${tooLarge.index}; this viewer shows indices up to ${LARGEST_INDEX}.`);
    this.copy = new DraftCopy(session.shape as Triple);
    this.state = {
      session, revision: session.revision, segments: session.segments, locked: session.locked, canUndo: session.can_undo,
      canRedo: session.can_redo, doing: '', since: 0, hasUnsent: false, isReachable: true, notes: [], problem: null, drafted: null, counts: new Map(),
    };
  }

  get id(): string { return this.state.session.id; }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Show the draft on a surface: all of it is fetched where nothing is here yet. */
  async show(surface: Surface): Promise<void> {
    const isFirst = this.surface === null;
    this.surface = surface;
    surface.segments(this.state.segments, this.state.locked);
    if (isFirst) {
      await this.once('Loading the draft', async () => this.take(await this.client.labelmap(this.id)));
      void this.learnDrafted();
    }
    else this.copy.showAll(surface);
    surface.redraw([]);
  }

  /** The viewer says that voxels changed: they are sent once the hand rests. */
  edited(): void {
    if (this.isOver || !this.surface) return;
    this.keepLocked(this.surface);
    clearTimeout(this.editTimer);
    if (!this.isHeld) this.editTimer = setTimeout(() => void this.flush(), EDIT_PAUSE_MS);
    if (!this.state.hasUnsent && this.copy.edited(this.surface)) this.set({ hasUnsent: true });
  }

  /** What is drawn over a locked segment goes back at once, also in the middle of a stroke. */
  private keepLocked(surface: Surface): void {
    if (!this.state.locked.length) return;
    const locked = new Set(this.state.locked);
    const slices = this.copy.revert(surface, (was, is) => locked.has(was) || locked.has(is));
    if (slices.length) surface.redraw(slices);
  }

  /** A stroke is being drawn: it is sent as one edit when the hand lets go, so that one undo takes all of it back. */
  hold(isHeld: boolean): void {
    if (this.isHeld === isHeld) return;
    this.isHeld = isHeld;
    if (isHeld) clearTimeout(this.editTimer);
    else this.edited();
  }

  /** Send what was edited and not sent yet. */
  flush = (): Promise<boolean> => this.once('', async () => this.send());

  prompt = (form: PromptForm) => this.change('Asking the model', async () => saying(await this.client.prompt(this.id, form)));
  help = (form: HelperForm) => this.change('Working', async () => saying(await this.client.help(this.id, form)));
  undo = () => this.learning(this.change('Undo', () => this.client.undo(this.id)));
  redo = () => this.learning(this.change('Redo', () => this.client.redo(this.id)));
  addSegment = (form: SegmentForm) => this.change('', () => this.client.addSegment(this.id, form));
  alterSegment = (index: number, form: SegmentChangeForm) => this.change('', () => this.client.alterSegment(this.id, index, form));
  removeSegment = (index: number) => this.change('', () => this.client.removeSegment(this.id, index));
  /** Fetch what changed on the server: after a job, or by another window. */
  refresh = () => this.learning(this.change('Loading the draft', () => this.client.labelmap(this.id, this.state.revision)));

  lock(locked: number[]): Promise<boolean> {
    return this.once('', async () => {
      await this.send();
      const session = await this.client.lock(this.id, locked);
      this.set({ locked: session.locked });
      this.surface?.segments(this.state.segments, session.locked);
    });
  }

  order(model: string): Promise<JobView | null> {
    let job: JobView | null = null;
    return this.once('', async () => {
      await this.send();
      job = await this.client.draft(this.id, model);
    }).then(() => job);
  }

  submit(isPartial: boolean | null = null): Promise<LabelView | null> {
    let label: LabelView | null = null;
    return this.once('Submitting', async () => {
      await this.send();
      label = await this.client.submit(this.id, this.state.revision, isPartial);
      this.close();
    }).then(() => label);
  }

  leave(): Promise<boolean> {
    return this.once('Leaving', async () => {
      await this.send();
      await this.client.leave(this.id);
      this.close();
    });
  }

  heartbeat(seconds: number): Promise<boolean> {
    return this.once('', async () => {
      const session = await this.client.heartbeat(this.id, seconds);
      // another window, or a job, has changed the draft
      if (session.revision !== this.state.revision) this.take(await this.client.labelmap(this.id, this.state.revision));
    });
  }

  /** Ask which model drafted the case; answered with `drafted`. */
  learnDrafted = (): Promise<boolean> => this.once('', async () => this.set({ drafted: await this.client.drafted(this.id) }));

  /** The draft as the model made it: fetched when somebody first wants to see it; null where there is none. */
  async modelDraft(): Promise<DraftCopy | null> {
    const wanted = this.state.drafted?.prediction;
    if (!wanted) return null;
    if (this.made?.prediction !== wanted) {
      await this.once('Loading the model’s draft', async () => {
        const frame = await this.client.draftedLabelmap(this.id);
        const copy = new DraftCopy(this.copy.shape);
        copy.take(frame.box, frame.voxels, NOWHERE);
        this.made = { prediction: wanted, copy };
      });
    }
    return this.made?.prediction === wanted ? this.made.copy : null;
  }

  /** Do something beside the draft, in its turn; what goes wrong is shown. */
  attempt = (act: () => Promise<void>) => this.once('', act);

  dismiss = () => {
    this.connection.dismiss(this.state.problem);
    this.set({ problem: null, notes: [] });
  };

  /** Nothing is sent from here on. */
  close(): void {
    this.isOver = true;
    clearTimeout(this.editTimer);
    this.connection.close();
    clearTimeout(this.learnTimer);
  }

  /** A whole draft may have come or gone: which model made what is there is asked again, once the hand rests. */
  private learning(changed: Promise<boolean>): Promise<boolean> {
    clearTimeout(this.learnTimer);
    this.learnTimer = setTimeout(() => void changed.then(() => this.learnDrafted()), LEARN_PAUSE_MS);
    return changed;
  }

  private change(doing: string, ask: () => Promise<Frame>): Promise<boolean> {
    return this.once(doing, async () => {
      await this.send();
      this.take(await ask());
    });
  }

  /** Do something when all before it is done; false where it failed, and the state says why. */
  private once(doing: string, act: () => Promise<void>): Promise<boolean> {
    const done = this.queue.then(async () => {
      if (this.isOver) return false;
      if (doing) this.set({ doing, since: Date.now(), problem: null, notes: [] });
      try {
        await this.tried(act);
        this.reached();
        return true;
      } catch (error) {
        this.failed(asProblem(error), doing);
        return false;
      } finally {
        if (doing) this.set({ doing: '' });
      }
    });
    this.queue = done;
    return done;
  }

  /** Act, again where the session's lease had run out: nothing of it is lost on the server. */
  private async tried(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      const problem = asProblem(error);
      if (problem.status !== 410) throw problem;
      await this.client.resume(this.id);
      this.take(await this.client.labelmap(this.id, this.state.revision));
      await act();
    }
  }

  private failed(problem: Problem, doing: string): void {
    const shown = this.isOver ? problem : this.connection.failed(problem, doing, this.state.hasUnsent);
    this.set({ problem: shown ?? this.state.problem, isReachable: problem.status !== UNREACHABLE });
  }

  private reached(): void {
    const passed = this.connection.reached();
    if (passed) this.set({ isReachable: true, problem: null, ...(passed.notes.length ? passed : {}) });
  }

  /** Send the edits that wait; where there are none a sign of life is enough. */
  private retry(): void {
    if (this.isHeld) return; // the stroke is sent whole, when it ends
    if (this.state.hasUnsent) void this.flush();
    else void this.heartbeat(0);
  }

  private async send(): Promise<void> {
    const surface = this.surface;
    if (!surface) return;
    clearTimeout(this.editTimer);
    for (let tries = 0; ; tries++) {
      const edit = this.copy.edited(surface);
      if (!edit) {
        if (this.state.hasUnsent) this.set({ hasUnsent: false });
        return;
      }
      this.set({ hasUnsent: true });
      try {
        const { revision, session } = this.state;
        const frame = await this.client.edit(this.id, encodeEdit(edit.box, edit.voxels, revision, session.geometry), revision);
        // the server has it now: what is the same in the viewer is no edit any more
        this.copy.take(edit.box, edit.voxels, NOWHERE);
        this.take(frame);
      } catch (error) {
        await this.mended(asProblem(error), surface, tries);
      }
    }
  }

  /** What can be done about a refused edit, so that it can be sent again; raises the problem where nothing can. */
  private async mended(problem: Problem, surface: Surface, tries: number): Promise<void> {
    if (tries >= MOST_TRIES) throw problem;
    if (problem.status === 412) {
      this.take(await this.client.labelmap(this.id, this.state.revision));
    } else if (problem.status === 409 && problem.kind === 'locked-segment') {
      const locked = new Set(this.state.locked);
      surface.redraw(this.copy.revert(surface, (was, is) => locked.has(was) || locked.has(is)));
      this.set({ problem });
    } else {
      throw problem;
    }
  }

  private take(frame: Frame): void {
    const surface = this.surface;
    if (frame.geometry && frame.geometry !== this.state.session.geometry) {
      throw new Problem(-1, 'viewer', 'The draft is of another grid than the case.', 'Load the page again.');
    }
    const changed = this.copy.take(frame.box, frame.voxels, surface ?? NOWHERE);
    const segments = frame.segments ?? this.state.segments;
    if (frame.segments) surface?.segments(frame.segments, this.state.locked);
    if (changed.length) surface?.redraw(changed);
    this.set({
      revision: frame.revision, canUndo: frame.canUndo, canRedo: frame.canRedo, segments, counts: this.copy.counts(),
      notes: frame.notes.length ? frame.notes : this.state.notes,
    });
  }

  private set(part: Partial<DeskState>): void {
    this.state = { ...this.state, ...part };
    for (const listener of this.listeners) listener();
  }
}

/** An answer that changes nothing says so: else nobody could tell it from none. */
function saying(frame: Frame): Frame {
  return countOf(frame.box) || frame.notes.length ? frame : { ...frame, notes: ['Nothing had to be changed.'] };
}

const NOWHERE: Shown = { slice: () => undefined };
