// Submit, leave, and the second look at what somebody else submitted.
import { useState } from 'preact/hooks';
import type { Client } from '../server/client';
import { asProblem, type Problem } from '../server/problem';
import type { LabelView } from '../server/types';
import { ProblemBox } from './problem';

export function Finish({ canUndo, canRedo, hasUnsent, isReachable, doing, onUndo, onRedo, onSubmit, onLeave, onHelp }: {
  canUndo: boolean; canRedo: boolean; hasUnsent: boolean; isReachable: boolean; doing: string;
  onUndo: () => void; onRedo: () => void; onSubmit: () => void; onLeave: () => void; onHelp: () => void;
}) {
  return (
    <section aria-label="Draft">
      <div class="as-row">
        <button data-cy="as-undo" disabled={!canUndo && !hasUnsent} title="Undo (Ctrl+Z)" onClick={onUndo}>Undo</button>
        <button data-cy="as-redo" disabled={!canRedo} title="Redo (Ctrl+Shift+Z)" onClick={onRedo}>Redo</button>
        <span class="as-grow as-quiet" role="status" data-cy="as-status">{doing || (!isReachable ? 'Not connected; trying again' : hasUnsent ? 'Saving…' : 'Saved')}</span>
        <button class="as-plain" aria-label="Keys" title="Keys (?)" onClick={onHelp}>?</button>
      </div>
      <div class="as-row">
        <button class="as-main" data-cy="as-submit" disabled={doing !== ''} title="Submit (Ctrl+Enter)" onClick={onSubmit}>Submit</button>
        <button data-cy="as-leave" onClick={onLeave}>Leave for later</button>
      </div>
    </section>
  );
}

export function Review({ client, label, onDone }: { client: Client; label: LabelView; onDone: () => void }) {
  const [comment, setComment] = useState('');
  const [problem, setProblem] = useState<Problem | null>(null);
  const say = async (verdict: 'approved' | 'returned') => {
    try { await client.review(label.id, verdict, comment); onDone(); } catch (error) { setProblem(asProblem(error)); }
  };
  return (
    <section aria-labelledby="as-review">
      <h2 id="as-review">Review</h2>
      <p>{label.author} submitted a label of this case. It is what the case opens with; look at it, then say:</p>
      <textarea aria-label="Comment" placeholder="Comment; needed to return it" maxLength={2000} value={comment} onInput={event => setComment(event.currentTarget.value)} />
      <div class="as-row">
        <button class="as-main" data-cy="as-approve" onClick={() => say('approved')}>Approve</button>
        <button data-cy="as-return" disabled={!comment.trim()} onClick={() => say('returned')}>Return</button>
      </div>
      <ProblemBox problem={problem} onClose={() => setProblem(null)} />
    </section>
  );
}

export function Keys({ keys, onClose }: { keys: readonly { label: string; what: string }[]; onClose: () => void }) {
  return (
    <section role="dialog" aria-label="Keys" data-cy="as-keys">
      <div class="as-row"><h2 class="as-grow">Keys</h2><button onClick={onClose}>Close</button></div>
      <table><tbody>{keys.map(key => <tr key={key.label}><td><kbd>{key.label}</kbd></td><td>{key.what}</td></tr>)}</tbody></table>
      <p class="as-quiet">Ctrl or Alt with the mouse turns the sign of one prompt round.</p>
    </section>
  );
}
