// What went wrong, as a sentence for a person: the server's own, or ours where the server could not be asked.

export class Problem extends Error {
  constructor(readonly status: number, readonly kind: string, sentence: string, readonly remedy = '', readonly session: string | null = null) {
    super(sentence);
  }
}

export const UNREACHABLE = 0;

export async function problemOf(response: Response): Promise<Problem> {
  let body: Record<string, unknown> = {};
  try {
    if (response.headers.get('content-type')?.includes('json')) body = await response.json();
  } catch { /* a proxy's page: the status says enough */ }
  const text = (name: string) => (typeof body[name] === 'string' ? body[name] as string : '');
  const detail = text('detail') || text('title') || `The server answered ${response.status}.`;
  return new Problem(response.status, text('type').split(':').at(-1) ?? '', detail, text('remedy'), text('session') || null);
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof TypeError && /fetch|network|load failed/i.test(error.message)) {
    return new Problem(UNREACHABLE, 'unreachable', 'The server cannot be reached.', 'Your edits are kept here and sent as soon as it answers.');
  }
  return new Problem(-1, 'viewer', error instanceof Error ? error.message : String(error));
}
