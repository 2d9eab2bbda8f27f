// A job followed to its end: told by the server as it goes, and asked for where the telling breaks off.
import type { Client } from './client';
import type { JobView } from './types';

/** As much of an EventSource as is used. */
export interface Stream {
  addEventListener(name: 'job' | 'error', listener: (event: { data?: string }) => void): void;
  close(): void;
}

const ASK_AGAIN_MS = 2000;

/** Tell `heard` of a job as it is now, and of every change until it has ended; `missed` says that the server does not answer. Returns what stops it. */
export function followJob(client: Pick<Client, 'job'>, first: JobView, heard: (job: JobView) => void, missed: (error: unknown) => void,
  open: (address: string) => Stream = address => new EventSource(address)): () => void {
  let isOver = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = () => { isOver = true; clearTimeout(timer); stream.close(); };
  const take = (job: JobView) => {
    if (isOver) return;
    if (job.has_ended) stop();
    heard(job);
  };
  const ask = async () => {
    try {
      take(await client.job(first.id));
    } catch (error) {
      if (!isOver) missed(error);
    }
    if (!isOver) timer = setTimeout(() => void ask(), ASK_AGAIN_MS);
  };
  const stream = open(`/api/v1/jobs/${first.id}/events`);
  stream.addEventListener('job', event => take(JSON.parse(event.data ?? '') as JobView));
  stream.addEventListener('error', () => {
    // the browser would try again by itself after some errors and never after others: asking works after all of them
    stream.close();
    if (!isOver) void ask();
  });
  heard(first);
  if (first.has_ended) stop();
  return stop;
}
