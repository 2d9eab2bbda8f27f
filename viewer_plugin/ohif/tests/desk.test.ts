import { expect, test, vi } from 'vitest';
import { Desk, type Surface } from '../src/draft/desk';
import { Client } from '../src/server/client';
import type { SessionView } from '../src/server/types';
import { encoded } from './encoded';

const SESSION = {
  id: 's', project: 'p', case: 'c', person: 'ann', state: 'open', revision: 0, can_undo: false, can_redo: false,
  segments: [{ index: 1, name: 'Liver', colour: [1, 2, 3], kind: null, category: null, laterality: null }], locked: [], geometry: 'g', shape: [2, 2, 4],
  dtype: 'uint8', parent: null, model_version: null, opened_at: null, lease_until: null, active_s: 0,
} as SessionView;

/** A server with one session, which keeps voxels and history as the real one does. */
class Server {
  voxels: Uint8Array = new Uint8Array(16);
  history: Uint8Array[] = [];
  revision = 0;
  locked: number[] = [];
  drafted: object | null = null;
  made: Uint8Array = new Uint8Array(16);
  asked: string[] = [];
  submitted: unknown[] = [];
  failing: (() => Response | null)[] = [];

  fetch = async (address: string, init: RequestInit): Promise<Response> => {
    const path = address.replace('/api/v1', '');
    this.asked.push(`${init.method} ${path}`);
    const failure = this.failing.length && init.method !== 'GET' && !path.endsWith('resume') ? this.failing.shift()!() : null;
    if (failure) return failure;
    if (path.endsWith('drafted')) return Response.json(this.drafted);
    if (path.endsWith('drafted/labelmap')) return frameOf(this.revision, this.made);
    if (path.endsWith('heartbeat')) return Response.json({ ...SESSION, revision: this.revision });
    if (path.endsWith('resume')) return Response.json({ ...SESSION, revision: this.revision });
    if (path.endsWith('submit')) {
      this.submitted.push(init.body ? JSON.parse(init.body as string) : null);
      return Response.json({ id: 'label', state: 'approved' });
    }
    if (init.method === 'PUT') return this.edited(init);
    if (path.endsWith('undo')) { this.voxels = this.history.pop()!; this.revision++; }
    if (path.endsWith('prompts')) this.change(voxels => voxels.fill(1, 0, 3));
    return this.frame();
  };

  change(act: (voxels: Uint8Array) => void): void {
    this.history.push(this.voxels.slice());
    act(this.voxels);
    this.revision++;
  }

  private async edited(init: RequestInit): Promise<Response> {
    if ((init.headers as Record<string, string>)['If-Match'] !== `"${this.revision}"`) return problem(412, 'stale-revision');
    const plain = (init.body as Blob).stream().pipeThrough(new DecompressionStream('gzip'));
    const bytes = new Uint8Array(await new Response(plain).arrayBuffer());
    const length = new DataView(bytes.buffer).getUint32(4, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const [[k0, j0, i0], [k1, j1, i1]] = header.box_kji;
    const next = this.voxels.slice();
    let from = 8 + length;
    for (let k = k0; k < k1; k++) for (let j = j0; j < j1; j++) for (let i = i0; i < i1; i++) next[k * 8 + j * 4 + i] = bytes[from++]!;
    if (next.some((value, at) => value !== this.voxels[at] && (this.locked.includes(value) || this.locked.includes(this.voxels[at]!)))) return problem(409, 'locked-segment');
    this.change(voxels => voxels.set(next));
    return this.frame();
  }

  private frame(): Response {
    return frameOf(this.revision, this.voxels, this.history.length > 0);
  }
}

function frameOf(revision: number, voxels: Uint8Array, canUndo = false): Response {
  return new Response(encoded({ revision, box_kji: [[0, 0, 0], [2, 2, 4]], dtype: 'uint8', geometry: 'g', segments: null, notes: [], can_undo: canUndo, can_redo: false }, voxels));
}

const problem = (status: number, kind: string) => Response.json({ type: `urn:annotate-server:problem:${kind}`, title: kind, detail: `It was ${kind}.` }, { status });

async function opened() {
  const server = new Server();
  const voxels = new Uint8Array(16);
  const surface: Surface = { slice: k => voxels.subarray(k * 8, k * 8 + 8), redraw: () => undefined, segments: () => undefined };
  const desk = new Desk(new Client(server.fetch, () => 'ann'), { ...SESSION });
  await desk.show(surface);
  await desk.learnDrafted();
  server.asked.length = 0;
  return { server, voxels, desk };
}

test('a stroke is sent, and one undo takes it back', async () => {
  const { server, voxels, desk } = await opened();
  voxels[5] = 1;
  expect(await desk.flush()).toBe(true);
  expect([server.voxels[5], desk.state.revision, desk.state.hasUnsent]).toEqual([1, 1, false]);
  await desk.undo();
  expect([voxels[5], server.voxels[5]]).toEqual([0, 0]);
});

test('a stroke that takes long is one edit: nothing is sent before the hand lets go', async () => {
  vi.useFakeTimers();
  try {
    const { server, voxels, desk } = await opened();
    desk.hold(true);
    for (const at of [1, 2, 3]) {
      voxels[at] = 1;
      desk.edited();
      await vi.advanceTimersByTimeAsync(3000);
    }
    expect([server.revision, desk.state.hasUnsent]).toEqual([0, true]);
    desk.hold(false);
    await vi.advanceTimersByTimeAsync(1000);
    vi.useRealTimers();
    await desk.flush();
    expect([server.revision, ...server.voxels.subarray(1, 4)]).toEqual([1, 1, 1, 1]);
  } finally {
    vi.useRealTimers();
  }
});

test('a stroke is sent before what follows it', async () => {
  const { server, voxels, desk } = await opened();
  voxels[9] = 1;
  await desk.prompt({ kind: 'point', points_mm: [[0, 0, 0]], model: 'm' });
  expect(server.asked.slice(0, 2)).toEqual(['PUT /sessions/s/labelmap', 'POST /sessions/s/prompts']);
  expect([...voxels]).toEqual([...server.voxels]);
  expect(voxels[9]).toBe(1);
});

test('where another window changed the draft, both changes are kept', async () => {
  const { server, voxels, desk } = await opened();
  server.change(there => { there[0] = 1; });
  voxels[15] = 1;
  expect(await desk.flush()).toBe(true);
  expect([server.voxels[0], server.voxels[15], voxels[0]]).toEqual([1, 1, 1]);
});

test('a stroke while the server is away is kept and sent later', async () => {
  const { server, voxels, desk } = await opened();
  server.failing.push(() => { throw new TypeError('Failed to fetch'); });
  voxels[3] = 1;
  expect(await desk.flush()).toBe(false);
  expect([desk.state.isReachable, desk.state.hasUnsent, voxels[3]]).toEqual([false, true, 1]);
  expect(desk.state.problem?.message).toContain('cannot be reached');
  expect(await desk.flush()).toBe(true);
  expect([server.voxels[3], desk.state.isReachable, desk.state.problem]).toEqual([1, true, null]);
  desk.close();
});

test('after the lease ran out the session is gone on with, and the stroke is in it', async () => {
  const { server, voxels, desk } = await opened();
  server.failing.push(() => problem(410, 'session-expired'));
  voxels[2] = 1;
  expect(await desk.flush()).toBe(true);
  expect(server.asked).toContain('POST /sessions/s/resume');
  expect(server.voxels[2]).toBe(1);
});

test('what was painted over a locked segment goes back, and the rest of the stroke stays', async () => {
  const { server, voxels, desk } = await opened();
  server.change(there => { there[4] = 2; });
  await desk.refresh();
  server.locked = desk.state.locked = [2];
  voxels[4] = 1;
  voxels[6] = 1;
  expect(await desk.flush()).toBe(true);
  expect([server.voxels[4], server.voxels[6], voxels[4], voxels[6]]).toEqual([2, 1, 2, 1]);
  expect(desk.state.problem?.kind).toBe('locked-segment');
});

test('a stroke over a locked segment goes back while it is drawn, and the server is not asked for it', async () => {
  const { server, voxels, desk } = await opened();
  server.change(there => { there[4] = 2; });
  await desk.refresh();
  desk.state.locked = [2];
  desk.hold(true);
  voxels[4] = 1;
  desk.edited();
  expect(voxels[4]).toBe(2);
  voxels[6] = 2;
  desk.edited();
  expect(voxels[6]).toBe(0);
  desk.hold(false);
  expect(await desk.flush()).toBe(true);
  expect(server.asked.some(each => each.startsWith('PUT'))).toBe(false);
});

test('submitting sends what was edited, and then nothing more', async () => {
  const { server, voxels, desk } = await opened();
  voxels[1] = 1;
  expect((await desk.submit())?.id).toBe('label');
  expect(server.asked).toEqual(['PUT /sessions/s/labelmap', 'POST /sessions/s/submit']);
  expect(await desk.undo()).toBe(false);
});

test('a label is partial only where somebody says so', async () => {
  for (const [said, body] of [[null, null], [true, { is_partial: true }]] as const) {
    const { server, desk } = await opened();
    await desk.submit(said);
    expect(server.submitted).toEqual([body]);
  }
});

test('a problem is the sentence of the server', async () => {
  const { server, desk } = await opened();
  server.failing.push(() => problem(422, 'not-made-for'));
  expect(await desk.prompt({ kind: 'point', points_mm: [[0, 0, 0]], model: 'm' })).toBe(false);
  expect(desk.state.problem?.message).toBe('It was not-made-for.');
});

test('a segment that the viewer cannot hold is refused before anything is shown', () => {
  const segments = [{ ...SESSION.segments[0]!, index: 300 }];
  expect(() => new Desk(new Client(async () => new Response(), () => 'ann'), { ...SESSION, segments })).toThrow('300');
});

test('what the model made is fetched once, when it is first wanted, and stays as it was', async () => {
  const { server, voxels, desk } = await opened();
  expect(await desk.modelDraft()).toBeNull();
  server.drafted = { prediction: 'p1', model: 'm', version: 'v', segments: [], notes: [], unsure: [], made_at: '' };
  server.made[5] = 1;
  await desk.learnDrafted();
  expect(server.asked).not.toContain('GET /sessions/s/drafted/labelmap');
  const made = await desk.modelDraft();
  voxels[5] = 2;
  await desk.flush();
  expect([made?.slice(0)?.[5], await desk.modelDraft() === made]).toEqual([1, true]);
  expect(server.asked.filter(each => each.endsWith('drafted/labelmap'))).toHaveLength(1);
});

test('when the server is back, it says so by itself, and what was asked of it meanwhile', async () => {
  vi.useFakeTimers();
  try {
    const { server, desk } = await opened();
    server.failing.push(() => { throw new TypeError('Failed to fetch'); }, () => { throw new TypeError('Failed to fetch'); });
    expect(await desk.prompt({ kind: 'point', points_mm: [[0, 0, 0]], model: 'm' })).toBe(false);
    expect(desk.state.isReachable).toBe(false);
    await vi.advanceTimersByTimeAsync(3000 + 6000);
    vi.useRealTimers();
    await desk.attempt(async () => undefined);
    expect([desk.state.isReachable, desk.state.problem]).toEqual([true, null]);
    expect(desk.state.notes.join()).toContain('Asking the model');
    desk.close();
  } finally {
    vi.useRealTimers();
  }
});

test('a page of a proxy and an answer that breaks off are problems that pass, and lose nothing', async () => {
  const { server, voxels, desk } = await opened();
  server.failing.push(() => new Response('<html>', { status: 200 }), () => new Response('<html>', { status: 502 }));
  voxels[7] = 1;
  expect(await desk.flush()).toBe(false);
  expect([desk.state.problem?.kind, desk.state.hasUnsent]).toEqual(['unreadable', true]);
  expect(await desk.flush()).toBe(false);
  expect([desk.state.problem?.status, desk.state.problem?.remedy, voxels[7]]).toEqual([502, expect.stringContaining('kept here'), 1]);
  expect(await desk.flush()).toBe(true);
  expect([server.voxels[7], desk.state.problem]).toEqual([1, null]);
  desk.close();
});

test('a model that fails while nothing waits stays on the page until somebody reads it', async () => {
  vi.useFakeTimers();
  try {
    const { server, desk } = await opened();
    server.failing.push(() => problem(500, 'worker-died'));
    await desk.prompt({ kind: 'point', points_mm: [[0, 0, 0]], model: 'm' });
    await vi.advanceTimersByTimeAsync(60_000);
    vi.useRealTimers();
    await desk.attempt(async () => undefined);
    expect([desk.state.problem?.kind, desk.state.isReachable]).toEqual(['worker-died', true]);
  } finally {
    vi.useRealTimers();
  }
});

test('what was closed does not come up with every further try', async () => {
  vi.useFakeTimers();
  try {
    const { server, voxels, desk } = await opened();
    server.failing.push(...Array.from({ length: 3 }, () => () => { throw new TypeError('Failed to fetch'); }));
    voxels[4] = 1;
    const first = desk.flush();
    await vi.advanceTimersByTimeAsync(0);
    vi.useRealTimers();
    expect([await first, desk.state.problem?.kind]).toEqual([false, 'unreachable']);
    desk.dismiss();
    expect([await desk.flush(), desk.state.problem, desk.state.isReachable]).toEqual([false, null, false]);
    expect([await desk.flush(), await desk.flush(), server.voxels[4], desk.state.isReachable]).toEqual([false, true, 1, true]);
    desk.close();
  } finally {
    vi.useRealTimers();
  }
});
