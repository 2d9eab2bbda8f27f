// What the server found odd about a volume when it read it: a tilted gantry, slices beside their places, one slice only.
import type { CaseView } from '../server/types';
import { Icon } from './icons';

export function Remarks({ found }: { found: CaseView }) {
  const remarks = [...(found.problem ? [found.problem.detail] : []), ...found.warnings];
  if (!remarks.length) return null;
  return (
    <section class="as-note" role="note" aria-label="About this volume" data-cy="as-warnings">
      {remarks.map(remark => <div key={remark} class="as-row as-tight"><span style={{ alignSelf: 'flex-start', paddingTop: '2px' }}><Icon of="warning" /></span><p>{remark}</p></div>)}
    </section>
  );
}
