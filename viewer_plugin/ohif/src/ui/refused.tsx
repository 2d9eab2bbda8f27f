// What lies among the studies and can be no case, with the reason: nobody should have to look for a missing case in a log.
import { useEffect, useState } from 'preact/hooks';
import type { Client } from '../server/client';
import type { RefusedView } from '../server/types';

/** Series without pixels and localizers: nobody misses them. */
const EXPECTED = 'not-made-for';

function useRefused(client: Client): RefusedView[] {
  const [refused, setRefused] = useState<RefusedView[]>([]);
  // what went wrong with asking says nothing about a case; the worklist beside it says that the server is away
  useEffect(() => { client.refused().then(setRefused, () => undefined); }, [client]);
  return refused;
}

export function Refused({ client }: { client: Client }) {
  const refused = useRefused(client).filter(each => each.kind !== EXPECTED);
  if (!refused.length) return null;
  return (
    <section aria-label="What cannot be annotated">
      <details data-cy="as-refused"><summary>{refused.length === 1 ? 'One series cannot' : `${refused.length} series cannot`} be annotated</summary>
        <ul class="as-list">{refused.map((each, n) => <li key={n} class="as-item"><p><strong>{each.name}</strong>: {each.reason}</p></li>)}</ul>
      </details>
    </section>
  );
}

/** Why a series that the viewer shows is no case. */
export function NoCase({ client, series }: { client: Client; series: string }) {
  const why = useRefused(client).find(each => each.series_uid === series);
  if (why) return <section class="as-note" role="alert" data-cy="as-no-case"><p>This series cannot be annotated: {why.reason}</p></section>;
  return <p class="as-quiet" data-cy="as-no-case">This series is no case of the server.</p>;
}
