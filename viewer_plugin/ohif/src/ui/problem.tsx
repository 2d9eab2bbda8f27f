import type { Problem } from '../server/problem';

/** What went wrong and what to do about it; read aloud when it appears. */
export function ProblemBox({ problem, onClose, children }: { problem: Problem | null; onClose?: () => void; children?: preact.ComponentChildren }) {
  if (!problem) return null;
  return (
    <section class="as-problem" role="alert" data-cy="as-problem">
      <p>{problem.message}</p>
      {problem.remedy && <p>{problem.remedy}</p>}
      {problem.status === 401 && <p><a href="/sign-in" target="_blank" rel="noopener">Sign in</a> in a window of its own; this page goes on by itself.</p>}
      <div class="as-row">{children}{onClose && <button onClick={onClose}>Close</button>}</div>
    </section>
  );
}
