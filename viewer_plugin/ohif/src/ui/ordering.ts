// A whole draft that was ordered for the open case: followed to its end, also when the page was loaded again meanwhile.
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Desk } from '../draft/desk';
import type { Client } from '../server/client';
import { followJob } from '../server/follow';
import { asProblem } from '../server/problem';
import type { JobView } from '../server/types';

export interface Ordering {
  job: JobView | null;
  isRunning: boolean;
  /** What to say beside it: that it was not applied, or that the server does not answer; else empty. */
  remark: string;
  run: (model: string) => Promise<void>;
  cancel: () => Promise<void>;
}

export function useOrdering(client: Client, desk: Desk): Ordering {
  const [job, setJob] = useState<JobView | null>(null);
  const [remark, setRemark] = useState('');
  const stop = useRef<() => void>(() => undefined);
  const follow = (first: JobView) => {
    stop.current();
    stop.current = followJob(client, first, now => {
      setJob(now);
      setRemark(now.result.not_applied ?? '');
      if (now.state === 'succeeded') void desk.refresh();
    }, error => setRemark(`${asProblem(error).message} It is asked again.`));
  };
  useEffect(() => {
    const find = async () => {
      const going = (await client.jobs()).find(each => each.order.session === desk.id && !each.has_ended);
      if (going) follow(going);
    };
    // the draft is what counts: it comes by itself where this fails
    find().catch(() => undefined);
    return () => stop.current();
  }, [desk]);
  return {
    job, remark, isRunning: job !== null && !job.has_ended,
    run: async model => { const ordered = await desk.order(model); if (ordered) follow(ordered); },
    cancel: async () => { await desk.attempt(async () => { if (job) setJob(await client.cancel(job.id)); }); },
  };
}
