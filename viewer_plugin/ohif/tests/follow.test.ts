import { expect, test, vi } from 'vitest';
import { followJob, type Stream } from '../src/server/follow';
import type { JobView } from '../src/server/types';

const job = (state: string, progress = 0) => ({ id: 'j', state, progress, has_ended: state === 'succeeded', message: '', problem: null }) as unknown as JobView;

class Told implements Stream {
  listeners = new Map<string, (event: { data?: string }) => void>();
  isClosed = false;
  addEventListener(name: 'job' | 'error', listener: (event: { data?: string }) => void): void { this.listeners.set(name, listener); }
  close(): void { this.isClosed = true; }
  tell(what: JobView): void { this.listeners.get('job')!({ data: JSON.stringify(what) }); }
  fail(): void { this.listeners.get('error')!({}); }
}

test('a job is told until it has ended', () => {
  const [stream, heard] = [new Told(), [] as string[]];
  followJob({ job: async () => { throw new Error('not asked'); } }, job('queued'), each => heard.push(each.state), () => undefined, () => stream);
  stream.tell(job('running', 0.5));
  stream.tell(job('succeeded', 1));
  stream.tell(job('running'));
  expect([heard, stream.isClosed]).toEqual([['queued', 'running', 'succeeded'], true]);
});

test('where the telling breaks off the job is asked for, over failures too', async () => {
  vi.useFakeTimers();
  try {
    const [stream, heard, missed] = [new Told(), [] as string[], [] as unknown[]];
    const answers = [async () => job('running', 0.7), async () => { throw new TypeError('Failed to fetch'); }, async () => job('succeeded', 1)];
    followJob({ job: () => answers.shift()!() }, job('running'), each => heard.push(`${each.state} ${each.progress}`), error => missed.push(error), () => stream);
    stream.fail();
    await vi.advanceTimersByTimeAsync(10_000);
    expect([heard, missed.length, answers.length]).toEqual([['running 0', 'running 0.7', 'succeeded 1'], 1, 0]);
  } finally {
    vi.useRealTimers();
  }
});

test('nothing is heard after it was stopped', () => {
  const [stream, heard] = [new Told(), [] as string[]];
  followJob({ job: async () => job('running') }, job('queued'), each => heard.push(each.state), () => undefined, () => stream)();
  stream.tell(job('running'));
  expect(heard).toEqual(['queued']);
});
