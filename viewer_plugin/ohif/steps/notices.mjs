// The notices of what the viewer is made of: the bundles name the packages in them and keep the comments of their licences.

const COMMENT = /\/\*[!*]?[\s\S]{0,4000}?\*\//g;
const IS_NOTICE = /^\/\*!|@license|@preserve|copyright|licensed under/i;
const PACKAGE = /node_modules\/((?:@[a-z0-9._-]+\/)?[a-z0-9._-]+)\//gi;

export function notices(files, licence, ohif) {
  const packages = new Set();
  const comments = new Set();
  for (const [name, content] of files) {
    if (!name.endsWith('.js')) continue;
    const text = content.toString('utf8');
    for (const match of text.matchAll(PACKAGE)) if (!match[1].startsWith('.')) packages.add(match[1]);
    for (const [comment] of text.matchAll(COMMENT)) {
      // icons repeat the same comment over and over; numbers and file names in it do not make it another
      if (IS_NOTICE.test(comment)) comments.add(comment.replace(/\r/g, ''));
    }
  }
  const line = '-'.repeat(100);
  return [
    `The viewer is ${ohif.package} ${ohif.version} as published on the npm registry, with files left out, white space taken`,
    'out and its addresses moved. Its licence:', '', licence.trim(), '', line,
    'The panel is built with Preact (MIT License, Copyright (c) 2015-present Jason Miller).', '', line,
    'Packages that the bundles name:', '', ...[...packages].sort(), '', line,
    'Notices that the bundles hold:', '', ...[...comments].sort().flatMap(comment => [comment, '']),
  ].join('\n');
}
