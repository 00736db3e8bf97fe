"Packaging for chromatic-descent: everything is read from settings.ini, so that nbdev and pip agree"
from configparser import ConfigParser
from pathlib import Path
import re
from setuptools import setup, find_packages

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

def readme()->str:
    "README.md with its relative links and pictures made absolute: on a package index there is no checkout beside it"
    def link(m): return f"{m[1]}{cfg['git_url']}/{'raw' if m[2].endswith(('.png','.svg')) else 'blob'}/{cfg['branch']}/{m[2]}"
    return re.sub(r'(\]\(|(?:src|href)=")(?![a-z][a-z0-9+.-]*:|//|#)([^)"\s]+)', link, (here/'README.md').read_text(encoding='utf-8'))

setup(
    name = cfg['lib_name'], version = cfg['version'], description = cfg['description'], keywords = cfg['keywords'].split(),
    author = cfg['author'], author_email = cfg['author_email'], license = 'MIT', url = cfg['git_url'],
    project_urls = {'Documentation': cfg['doc_host']+cfg['doc_baseurl'], 'Source': cfg['git_url'], 'Changelog': f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md"},
    long_description = readme(), long_description_content_type = 'text/markdown',
    python_requires = '>='+cfg['min_python'],
    classifiers = ['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Natural Language :: English',
                   'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    packages = find_packages(include=[cfg['lib_path'], cfg['lib_path']+'.*']), include_package_data = False, zip_safe = False,
    install_requires = cfg['requirements'].split(),
    extras_require = {'dask': cfg['dask_requirements'].split(), 'parquet': cfg['parquet_requirements'].split(), 'umap': cfg['umap_requirements'].split(), 'dev': cfg['dev_requirements'].split()},
    entry_points = {'console_scripts': cfg['console_scripts'].split(),
                    'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]})
