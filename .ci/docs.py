"""The site, in _docs/: `python .ci/docs.py`. Runs no lesson, only exported cells, and needs no network

1. nbdev's processors turn nbs/*.ipynb into pages in _proc/, named as nbdev's own links name them (`data.html`, not `01_data.html`).
   Added to what nbdev does: a table of a definition's docments, its folded source, and links that stay inside the site.
2. Quarto renders them where it is installed, smalldocs elsewhere (SITE=smalldocs insists on it), from the one _quarto.yml.
3. Of smalldocs' pages, maths becomes MathML, and fonts and scripts from elsewhere go; search works from file:// too."""
import ast, html, inspect, json, os, re, shutil, subprocess, sys, warnings
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path
import yaml

root = Path(__file__).resolve().parent.parent
nbs, proc, out = root/'nbs', root/'_proc', root/'_docs'

# --- names: what a backticked name links to

def own_names()->dict:
    "nbdev's index of our names, with links relative to the site; private names out, methods led to their class"
    from nbdev.config import get_config
    idx = runpy_dict(root/get_config().lib_path.name/'_modidx.py')
    git = f"{get_config().git_url}/blob/{get_config().branch}/"
    syms = {}
    for mod,names in idx['syms'].items():
        py = root/(mod.replace('.', '/')+'.py')
        if not py.exists(): sys.exit(f'chromatic/_modidx.py names {mod}, which has no file: make export')
        tree = ast.parse(py.read_text(encoding='utf-8'))
        inside = {f'{c.name}.{f.name}' for c in tree.body if isinstance(c, ast.ClassDef) for f in c.body if hasattr(f, 'name')}
        page = next((nb.split('#')[0] for nb,_ in names.values()), None)
        exported = next((ast.literal_eval(a.value) for a in tree.body if isinstance(a, ast.Assign) and a.targets[0].id=='__all__'), [])
        syms[mod] = {f'{mod}.{n}': (page, f'{mod}.py', git) for n in exported if page} # constants: the page, no anchor
        shown = [n[len(mod)+1:] for n in names if '_' not in [o[0] for o in n[len(mod)+1:].split('.')]]
        heads = [n for n in shown if n not in inside] # those with a heading of their own
        for n in shown:
            nb, py = names[f'{mod}.{n}']
            head = n if n in heads else n.split('.')[0]
            alone = sum(h.lower()==head.lower() for h in heads)==1 # `Metric` and `metric` are told apart by case
            syms[mod][f'{mod}.{n}'] = (f"{nb.split('#')[0]}#{head.lower() if alone else head}", py, git+py)
    return {'syms': syms, 'settings': {}}

def runpy_dict(path:Path)->dict:
    g = {}
    exec(compile(path.read_text(encoding='utf-8'), path, 'exec'), g)
    return g['d']

def offer_names():
    "Let nbdev find our names as if the package were installed: it looks for an entry point of an installed distribution"
    site = proc/'.names'
    info = site/'chromatic_descent-0.dist-info'
    info.mkdir(parents=True)
    (info/'METADATA').write_text('Metadata-Version: 2.1\nName: chromatic-descent\nVersion: 0\n')
    (info/'entry_points.txt').write_text('[nbdev]\nchromatic = chromatic_site_names:d\n')
    (site/'chromatic_site_names.py').write_text(f'd = {own_names()!r}\n')
    sys.path[:0] = [str(site), str(root)]

# --- pages: nbdev's processors and ours

def cell_text(s)->str: return re.sub(r'\s*\n\s*', ' ', str(s)).replace('|', r'\|')

def docments_table(dm)->str:
    "A Markdown table of parameters: name, type, default, what it is; '' where nothing is said about any"
    from fastcore.docments import empty, _maybe_nm, _fmt_default
    code = lambda s: f'`{cell_text(s)}`' if s else ''
    rows = []
    for k,p in dm.dm.items():
        anno, doc, default = p.get('anno', empty), p.get('docment'), p.get('default', empty)
        if k=='return' and anno is empty and not doc: continue
        anno = '' if anno is empty else anno if isinstance(anno, str) else _maybe_nm(anno)
        rows.append([f'**{"returns" if k=="return" else k}**', code(anno), code(_fmt_default(default)), cell_text(doc or '')])
    if not any(r[3] for r in rows): return ''
    head = ['', 'type', 'default', 'what it is']
    keep = [i for i in range(4) if i in (0,3) or any(r[i] for r in rows)]
    line = lambda r: '| '+' | '.join(r[i] for i in keep)+' |'
    return '\n'.join([line(head), line(['---']*4), *map(line, rows)])

def set_renderer():
    "Make nbdev's show_doc write signature, docstring and a table of docments"
    import nbdev.showdoc as sd
    from fastcore.docments import DocmentText, _fmt_sig
    from importlib import import_module
    class SiteRenderer(sd.BasicMarkdownRenderer):
        def _repr_markdown_(self):
            src, dm, known = sd.NbdevLookup().code(self.fn), self.dm, sd.NbdevLookup()[self.fn]
            if inspect.isclass(self.sym): # the module's own, since a notebook's class has no source for its docments
                if known: dm = DocmentText(getattr(import_module(known[1][:-3].replace('/', '.')), self.nm, self.sym), docstring=False)
                dm.dm.pop('return', None)
            table, sig = docments_table(dm), str(dm)
            if table: # types and comments stand in the table
                ps = [re.sub(r':.*?(?==|$)', '', dm._fmt_param(k, {**p, 'anno': inspect._empty})) for k,p in dm.dm.items() if k!='return']
                name = self.nm.split('.')[-1]
                sig = f"def {name}({', '.join(ps)})"
                if len(sig)>88: sig = _fmt_sig(name, [(p, '') for p in ps], ')', 84)
            if inspect.isclass(self.sym): sig = re.sub(r'^(async )?def', 'class', sig)
            doc = '---\n\n'
            if src: doc += sd._ext_link(src, 'source', 'style="float:right; font-size:smaller"')+'\n\n'
            anchor = (sd.NbdevLookup().doc(self.fn) or '#'+self.nm.lower()).split('#')[-1]
            doc += f"{'#'*self.title_level} {self.nm} {{#{anchor}}}\n\n```python\n{sig.rstrip(':')}\n```"
            if self.docs: doc += f'\n\n{self.docs}'
            return doc+(f'\n\n{table}' if table else '')
    sd.BasicMarkdownRenderer = SiteRenderer

def show_source():
    "A processor that puts the folded source of an exported definition below its documentation"
    from nbdev.process import Processor
    from nbdev.maker import mk_cell
    class show_source(Processor):
        def begin(self):
            cells = self.nb.cells
            for i in reversed([i for i,c in enumerate(cells) if getattr(c, 'has_sd', 0) and not getattr(cells[i+1] if i+1<len(cells) else None, 'has_sd', 0)]):
                j = next(j for j in range(i, -1, -1) if not getattr(cells[j], 'has_sd', 0))
                cells[j+1:i+1] = cells[j+1:i+1][::-1] # nbdev puts the last definition of a cell first
                new = mk_cell('#| code-fold: true\n#| code-summary: "Source"\n'+cells[j].source.strip())
                new.directives_ = {'eval:': ['false']} # not run again for the site
                cells.insert(i+1, new)
    return show_source

def pages()->dict:
    "Notebook (relative to nbs) -> page as nbdev names it"
    from nbdev.doclinks import _nbpath2html
    files = [p.relative_to(nbs) for p in sorted(nbs.rglob('*.ipynb')) if not any(o[0] in '._' for o in p.relative_to(nbs).parts)]
    named = {p: _nbpath2html(p).with_suffix('.ipynb') for p in files}
    if len(set(named.values()))<len(named): sys.exit(f'two notebooks make the same page: {sorted(map(str, named))}')
    return named

def process(args)->str:
    "Write notebook `src` to _proc/ as a page; '' or why not"
    src, dst, links = args
    from execnb.nbio import read_nb, write_nb
    from nbdev.processors import FilterDefaults, add_show_docs
    class SiteFilter(FilterDefaults):
        def base_procs(self):
            ps = super().base_procs()
            ps.insert(ps.index(add_show_docs)+1, show_source())
            return ps
    os.chdir(nbs)
    os.environ['IN_TEST'] = '1'
    set_renderer()
    try:
        nb = read_nb(nbs/src)
        SiteFilter()(nb)
    except Exception as e: return f'{src}: {type(e).__name__}: {e} ({type(e.__cause__).__name__}: {e.__cause__})'
    def relink(m):
        to, anchor = os.path.normpath(src.parent/m[2]), m[3] or ''
        if to in links: to = links[to] # another notebook
        elif to.startswith('..'): to = links['']+os.path.relpath(root/'nbs'/src.parent/m[2], root) # outside nbs/: on the code host
        else: return m[0]
        return m[1]+(to if '://' in to else os.path.relpath(to, dst.parent))+anchor
    for c in nb.cells:
        if c.cell_type=='markdown': c.source = re.sub(r'(\]\(|(?:href|src)=")(?![a-z][a-z0-9+.-]*:|//|#)([^)#"\s]+)(#[^)"\s]*)?', relink, c.source)
    (proc/dst).parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, proc/dst)
    return ''

# --- configuration: the sidebar's globs, which Quarto would read from nbs/, and the navbar's links, told in the pages' names

def expand(contents:list, named:dict)->list:
    res = []
    for c in contents:
        if isinstance(c, dict) and 'auto' in c:
            res += [named[p].as_posix() for p in sorted(named) if any(fnmatch(p.as_posix(), g) for g in [c['auto']])]
        elif isinstance(c, dict) and 'contents' in c:
            if inner := expand(c['contents'], named): res.append({**c, 'contents': inner})
        else: res.append(c)
    return res

def configure(named:dict)->dict:
    cfg = yaml.safe_load((root/'_quarto.yml').read_text(encoding='utf-8'))
    for o in cfg['website']['navbar']['left']: o['href'] = named.get(Path(o['href']), Path(o['href'])).as_posix()
    side = cfg['website']['sidebar']
    side['contents'] = expand(side['contents'], named)
    listed = json.dumps(side['contents'])
    missing = [str(p) for p,d in named.items() if f'"{d.as_posix()}"' not in listed]
    if missing: sys.exit(f"not in the sidebar of _quarto.yml: {', '.join(missing)}")
    (proc/'_quarto.yml').write_text(yaml.safe_dump(cfg, sort_keys=False, allow_unicode=True), encoding='utf-8')
    return cfg

# --- after smalldocs

def mathml(page:str, name:str)->str:
    from math_core import LatexToMathML, LatexError
    conv = LatexToMathML(fancy_error=False, allow_unreliable_rendering=True)
    def one(m):
        tex = html.unescape(m[3]).strip()
        try: return conv.convert_with_local_state(tex, displaystyle=m[1]=='display')
        except LatexError as e: sys.exit(f'{name}: maths that math-core cannot read: {tex}\n{e}')
    return re.sub(r'<span class="math (inline|display)">\\([(\[])(.*?)\\[)\]]</span>', one, page, flags=re.S)

FILE_SEARCH = '''<script>/* from file:// a page may not fetch: read the search index as a script */
if (location.protocol === "file:") { const get = window.fetch; window.fetch = (u, o) => !String(u).endsWith("search.json") ? get(u, o) :
  new Promise((yes, no) => { const s = document.createElement("script"); s.src = String(u).replace(/json$/, "js"); s.onerror = no;
    s.onload = () => yes(new Response(JSON.stringify(window.searchIndex))); document.head.append(s); }); }</script>'''

CURRENT = '''<script>/* the sidebar shows the entry of this page, as Quarto's does */
document.addEventListener("DOMContentLoaded", () => { const side = document.getElementById("quarto-sidebar"), here = side && side.querySelector(".sidebar-link.active");
  if (here) side.scrollTop += here.getBoundingClientRect().top-side.getBoundingClientRect().top-side.clientHeight/2; }); </script>'''

def finish(named:dict):
    "Make smalldocs' pages whole without the internet"
    back = {d.with_suffix('.ipynb').as_posix(): p.as_posix() for p,d in named.items()}
    for p in out.rglob('*.html'):
        s = mathml(p.read_text(encoding='utf-8'), p.name)
        s = re.sub(r'<(script|link)\b[^>]*?(?:src|href)="https?://[^"]*katex[^"]*"[^>]*>(?:</script>)?', '', s)
        s = re.sub(r'(/nbs/)([\w./-]+\.ipynb)', lambda m: m[1]+back.get(m[2], m[2]), s) # "view source": the notebook's own name
        p.write_text(s.replace('</head>', FILE_SEARCH+CURRENT+'</head>', 1), encoding='utf-8')
    for p in out.rglob('*.css'):
        s = p.read_text(encoding='utf-8')
        if 'http' in s: p.write_text(re.sub(r'@import\s*url\((["\']?)https?://[^)]*\)\s*;', '', s), encoding='utf-8')
    index = json.loads((out/'search.json').read_text(encoding='utf-8'))
    for e in index: e['text'] = re.sub(r'\\[()\[\]]|^source\b\s*', '', e['text'])
    text = json.dumps(index, ensure_ascii=False)
    (out/'search.json').write_text(text, encoding='utf-8')
    (out/'search.js').write_text(f'window.searchIndex = {text};\n', encoding='utf-8')

def render(named:dict):
    if shutil.which('quarto') and os.environ.get('SITE')!='smalldocs':
        subprocess.run(['quarto', 'render', str(proc), '--no-execute'], check=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(proc/'_docs', out)
        return 'Quarto'
    import smalldocs.markdown as md
    from smalldocs.site import build
    # mdit-py-plugins 0.7.0 looks for a digit before the first `$` at the end of the text
    maths = md.dollarmath_plugin
    md.dollarmath_plugin = lambda m, **kw: maths(m, **{**kw, 'allow_digits': True})
    site = build(proc, quiet=True)
    expected = 'html-math-method', 'respect-user-color-scheme', 'output-file' # Quarto's, with no work for smalldocs
    warnings = [w for w in site.warnings if not any(o in w for o in expected)]
    if warnings: sys.exit('\n'.join(warnings))
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(proc/'_docs', out)
    finish(named)
    return 'smalldocs'

def main()->int:
    os.chdir(root)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    warnings.filterwarnings('ignore', category=FutureWarning) # torch's, on import
    shutil.rmtree(proc, ignore_errors=True)
    proc.mkdir()
    offer_names()
    named = pages()
    for p in nbs.rglob('*'): # pictures, results, style sheets
        r = p.relative_to(nbs)
        if p.is_file() and p.suffix!='.ipynb' and not any(o[0] in '._' for o in r.parts):
            (proc/r).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(p, proc/r)
    from nbdev.config import get_config
    links = {'': f'{get_config().git_url}/blob/{get_config().branch}/'} | {p.as_posix(): d.as_posix() for p,d in named.items()}
    import fastai.basics, matplotlib.pyplot, scipy.stats, seaborn, sklearn.manifold, torchvision, nbdev.processors # once, for all that are forked
    with get_context('fork').Pool(2, maxtasksperchild=1) as pool: # a process a notebook
        errors = list(filter(None, pool.imap(process, [(p, d, links) for p,d in named.items()])))
    if errors: sys.exit('\n'.join(errors))
    configure(named)
    print(f'{len(named)} pages in _docs/, by {render(named)}')
    return 0

if __name__ == '__main__': sys.exit(main())
