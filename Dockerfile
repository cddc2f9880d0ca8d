# JupyterLab on the notebooks: docker build -t liqe . && docker run -p 8888:8888 liqe
FROM python:3.11-slim
RUN useradd --create-home reader
WORKDIR /home/reader/liqe
COPY --chown=reader . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt -e '.[notebooks,heif,parquet]'
USER reader
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--notebook-dir=.", "notebooks/00_quickstart.ipynb"]
