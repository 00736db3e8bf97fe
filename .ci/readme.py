"""README.md from nbs/index.ipynb, through nbconvert: `python .ci/readme.py`, or with --check to see whether it is up to date

Cells with `#| hide` are left out, other `#|` lines are dropped, outputs are kept. Links and images are written as seen from
the top of the repository, so that they work on a code host; a page of the site (`mds.html`) becomes its notebook."""
import difflib, json, os, re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'
NOTE = '<!-- Made from nbs/index.ipynb by .ci/readme.py: edit that. -->\n\n'

def page_names()->dict:
    "Page of the site -> its notebook, as nbdev names pages: `mds.html` -> `11_mds.ipynb`"
    return {re.sub(r'^\d+[a-z]?_', '', p.stem)+'.html': p.relative_to(nbs).as_posix() for p in sorted(nbs.rglob('*.ipynb'))}

def clean(nb):
    "Drop hidden cells, directives, and what only a browser with a style sheet would show"
    cells = []
    for c in nb.cells:
        flags = [l[2:].strip() for l in c.source.splitlines() if l.startswith('#|')]
        if c.cell_type=='raw' or (c.cell_type=='code' and {'hide','include: false'} & set(flags)): continue
        if c.cell_type=='code':
            for f in flags:
                if f.startswith('fig-alt:'): c.metadata['alt'] = json.loads(f[len('fig-alt:'):])
            c.source = '' if 'echo: false' in flags else re.sub(r'^#\|.*\n?', '', c.source, flags=re.M).strip()
            if 'output: false' in flags: c.outputs = []
            for o in c.outputs:
                data = o.get('data', {})
                if 'image/png' in data: data.pop('text/plain', None)
                if 'text/html' in data: data['text/html'] = re.sub(r'<style.*?</style>\s*', '', data['text/html'], flags=re.S)
        if c.source.strip() or c.get('outputs'): cells.append(c)
    nb.cells = cells
    return nb

def relink(target:str, pages:dict, images:dict)->str:
    "A link of the notebook as seen from the top of the repository"
    if re.match(r'[a-z][a-z0-9+.-]*:|//|#', target): return target
    path, anchor = re.match(r'([^#]*)(#.*)?', target).groups()
    if path in pages: return 'nbs/'+pages[path]
    full = os.path.normpath(nbs/path)
    if path not in images and not os.path.exists(full): sys.exit(f'nbs/index.ipynb: broken link {target}')
    return os.path.relpath(full, root).replace(os.sep, '/')+(anchor or '')

def readme()->tuple[str,dict]:
    "The text of the README, and the images it shows from outputs: name -> bytes"
    config = Config({'MarkdownExporter': {'preprocessors': []}})
    config.NbConvertBase.display_data_priority = ['text/markdown', 'image/png', 'image/svg+xml', 'text/html', 'text/plain']
    nb = clean(nbformat.read(nbs/'index.ipynb', 4))
    body, res = MarkdownExporter(config=config).from_notebook_node(nb, {'output_files_dir': 'index_files', 'unique_key': 'index'})
    pages, images = page_names(), {k.replace(os.sep, '/'):v for k,v in res.get('outputs', {}).items()}
    for i,c in enumerate(nb.cells):
        if 'alt' in c.metadata: body = re.sub(rf'!\[\w+\](?=\([^)]*index_{i}_\d+\.)', lambda _: f'![{c.metadata.alt}]', body)
    parts = re.split(r'(^```.*?^```$)', body, flags=re.M|re.S)
    parts[1::2] = ['' if re.fullmatch(r'```\w*\s*```', p) else p for p in parts[1::2]] # cells that show only what they print
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r'(\]\()([^)\s]+)', lambda m: m[1]+relink(m[2], pages, images), parts[i])
        parts[i] = re.sub(r'((?:src|href|srcset)=")([^"\s]+)', lambda m: m[1]+relink(m[2], pages, images), parts[i])
    body = re.sub(r'[ \t]+$', '', ''.join(parts), flags=re.M)
    return NOTE+re.sub(r'\n{3,}', '\n\n', body).strip()+'\n', images

def main()->int:
    text, images = readme()
    path = root/'README.md'
    old = path.read_text(encoding='utf-8') if path.exists() else ''
    there = {p.relative_to(nbs).as_posix(): p.read_bytes() for p in nbs.glob('index_files/*')}
    if '--check' in sys.argv:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), 'README.md', 'from nbs/index.ipynb'))
        return int(old!=text or there!=images)
    for name in there.keys()-images.keys(): (nbs/name).unlink()
    for name,data in images.items():
        (nbs/name).parent.mkdir(exist_ok=True)
        if there.get(name)!=data: (nbs/name).write_bytes(data)
    if old!=text: path.write_text(text, encoding='utf-8')
    return 0

if __name__ == '__main__': sys.exit(main())
